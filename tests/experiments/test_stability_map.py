"""The stability map: what counts as failed, which runs are made, and the largest rate without a failure."""

import json

import pytest

from experiments.conv_vae import runs as conv_runs
from experiments.shared.rate_map import draw_map
from experiments.stability_map import FLAGS, main, table
from stable_params.parse import PARAMETERIZATIONS, parse_parameterization


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").open()][1:]


def test_every_parameterization_is_there():
    assert {parse_parameterization(flag).name for flag in FLAGS} == PARAMETERIZATIONS.keys()


def test_the_largest_rate_is_the_last_one_before_any_failure():
    failed = {("a", 0.1): [0, 0], ("a", 0.2): [0, 0], ("a", 0.4): [0, 1], ("b", 0.1): [1, 1], ("b", 0.2): [0, 0],
              ("c", 0.1): [0, 0], ("c", 0.2): [1, 0], ("c", 0.4): [0, 0]}  # fmt: skip
    results = {(variant, lr, seed): {"failed": bool(bad)} for (variant, lr), runs in failed.items() for seed, bad in enumerate(runs)}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(results, "abc", [0.1, 0.2, 0.4]).splitlines()[2:]]
    assert rows == [["a", "0/2", "0/2", "1/2", "0.2"], ["b", "2/2", "0/2", "-", "none"], ["c", "0/2", "1/2", "0/2", "0.1"]]
    shown = [text.get_text() for text in draw_map(results, "abc", [0.1, 0.2, 0.4]).axes[0].texts]
    assert shown == ["0/2", "0/2", "1/2", "2/2", "0/2", "-", "0/2", "1/2", "0/2"]


def test_conv_runs_are_made_once_for_each_variant_rate_and_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conv_runs, "BATCH", 16)
    tiny = ["--flags", "explin", "exp", "--steps", "2", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*tiny, "--lrs", "0.001"]) == 0
    assert main([*tiny, "--lrs", "0.001", "1e30"]) == 0
    keys = [tuple(line["key"]) for line in lines(tmp_path)]
    assert keys == [("explin", 0.001, 0), ("exp", 0.001, 0), ("explin", 1e30, 0), ("exp", 1e30, 0)]
    assert "| explin             | 0/1        | 1/1        | 0.001              |" in capsys.readouterr().out
    assert (tmp_path / "map.md").is_file() and (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("flags, message", [(["--seeds", "0"], "--seeds is 0"), (["--lrs", "0"], "they must be above 0")])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    assert main(["--out", str(tmp_path), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
