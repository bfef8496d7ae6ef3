"""Each table and figure is a command of its own."""

import runpy
import sys

import pytest


@pytest.mark.parametrize("name", ["table2", "table3", "table4", "figure1", "stability_map", "vdvae_map", "theory_figure",
                                  "demonstration"])
def test_help_names_the_command(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: python -m experiments.{name}")
