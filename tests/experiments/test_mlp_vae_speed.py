from argparse import Namespace

import pytest

from experiments import mlp_vae_speed


def test_program_prints_both_costs(monkeypatch, capsys):
    monkeypatch.setattr(mlp_vae_speed, "CELLS", mlp_vae_speed.CELLS[:2])
    assert mlp_vae_speed.main(["--seeds", "1", "--batch_size", "8", "--steps", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 members, batch 8, cpu" in lines[0]
    assert lines[2].startswith("| together") and lines[3].startswith("| one after another")


def test_hours_are_those_of_a_thousand_epochs():
    text = mlp_vae_speed.table(60, 36.0, 72.0, Namespace(batch_size=500, device="cuda"))
    # 100 batches an epoch: 1e5 steps of 36 ms are an hour.
    assert "36.0" in text and "1.00" in text and "72.0" in text and "2.00" in text and "2.00 times as fast" in text


@pytest.mark.parametrize("option", ["--seeds", "--batch_size", "--steps"])
def test_bad_options_are_one_line(capsys, option):
    assert mlp_vae_speed.main([option, "0"]) == 2
    assert f"{option} is 0" in capsys.readouterr().err
