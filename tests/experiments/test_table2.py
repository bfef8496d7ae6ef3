"""The experiment of Table 2: its rule, its records, and how it continues after an interruption."""

import json
import math

import numpy as np
import pytest
import torch

from experiments.conv_vae import runs as conv_runs
from experiments.conv_vae.model import Scales
from experiments.conv_vae.runs import Runs, record, ten_images, train
from experiments.conv_vae.table2_report import PAPER
from experiments.table2 import DECODED, ENCODED, main
from stable_params import ExpLin

TINY = ["--seeds", "1", "--lrs", "0.008", "--steps", "2"]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(conv_runs, "BATCH", 16)


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").open()]


def test_rule():
    fine = record([3000.0, 9e5] + [2.0] * 20)
    assert fine == {"first_nan": None, "largest": 9e5, "first": 3000.0, "final": 2.0, "failed": False}
    assert record([3000.0] * 20)["failed"] is False and record([-5.0] + [499.0] * 20)["failed"] is False
    assert record([3000.0] + [3.1e5] * 20)["failed"] is True and record([-5.0] + [501.0] * 20)["failed"] is True
    for bad in (math.nan, math.inf, -math.inf):
        broken = record([3000.0, 7000.0, bad, 2.0])
        assert broken["failed"] is True and broken["first_nan"] == 3 and broken["largest"] == 7000.0
        assert math.isnan(broken["final"])


def test_ten_images_are_drawn_with_the_seed():
    first, again, other = (ten_images("photos32", ".", seed) for seed in (0, 0, 1))
    assert first.shape == (10, 3, 32, 32) and 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_run_is_the_same_in_any_company_and_its_nan_is_located():
    """Pixels of 1e30 send the second member's first loss beyond float32; the first member stays the same."""
    images, ticks = {0: ten_images("photos32", ".", 0) * 1e30, 4: ten_images("photos32", ".", 4)}, []
    scales = Scales(ExpLin(), DECODED["Bounded"])
    fine, broken = train(Runs(scales, 1e-3, [4, 0]), images, 4, "cpu", ticks.append)
    (alone,) = train(Runs(scales, 1e-3, [4]), images, 4, "cpu", ticks.append)
    assert (broken["first_nan"], broken["failed"]) == (1, True) and sum(ticks) == 3 * 4
    assert fine["first_nan"] is None and fine["failed"] is False
    for key in ("first", "largest", "final"):
        assert fine[key] == pytest.approx(alone[key], rel=1e-4)


def test_a_run_without_a_living_member_ends_early_and_is_counted_whole(monkeypatch):
    monkeypatch.setattr(conv_runs, "CHECK_EVERY", 3)
    ticks = []
    (broken,) = train(Runs(Scales(ExpLin(), DECODED["Exp"]), 1e30, [0]), {0: ten_images("photos32", ".", 0)}, 50, "cpu",
                      ticks.append)  # fmt: skip
    assert broken["first_nan"] == 2 and len(ticks) == 4 and sum(ticks) == 50


def test_all_cells_a_table_and_a_picture(tmp_path, capsys):
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    keys = {tuple(line["key"]) for line in lines(tmp_path)[1:]}
    assert keys == {(encoded, decoded, 0.008, 0) for encoded in ENCODED for decoded in DECODED}
    text = capsys.readouterr().out
    assert "| 0.008 | Exp       |" in text and "7/10" in text and text.strip() == (tmp_path / "table2.md").read_text().strip()
    assert (tmp_path / "table2.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_experiment_makes_the_runs_that_are_missing(tmp_path, monkeypatch, capsys):
    out = ["--out", str(tmp_path)]
    calls = []

    def counted(runs, *arguments):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(runs)
        return train(runs, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("experiments.table2.train", counted)
        main([*TINY, *out])
    kept = lines(tmp_path)
    assert len(kept) == 1 + 5
    assert main([*TINY, *out]) == 0
    assert lines(tmp_path)[:6] == kept and len(lines(tmp_path)) == 1 + 12
    monkeypatch.setattr("experiments.table2.train", None)
    assert main([*TINY, *out]) == 0  # nothing is trained again


def test_together_and_one_after_another_give_the_same_cells(tmp_path, monkeypatch):
    """Seeds train together only with others of the same scales."""
    monkeypatch.setattr("experiments.table2.ENCODED", {"Exp": ENCODED["Exp"]})
    for folder, together in ((tmp_path / "one", "1"), (tmp_path / "two", "2")):
        assert main(["--seeds", "2", "--lrs", "0.001", "--steps", "2", "--together", together, "--out", str(folder)]) == 0
    one, two = ({tuple(line["key"]): line["record"] for line in lines(tmp_path / name)[1:]} for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(two[key]["final"] == pytest.approx(one[key]["final"], rel=1e-4) for key in one)


@pytest.mark.parametrize("flags, message", [
    (["--steps", "0"], "--steps is 0, it must be at least 1"), (["--lrs", "-1"], "they must be above 0"),
    (["--device", "warp"], "--device warp cannot be used"), (["--dataset", "cifar10", "--data_root", "nowhere"], "nowhere"),
    (["--steps", "3"], "steps 2, now 3")])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    (tmp_path / "results.jsonl").write_text('{"settings": {"table": 2, "dataset": "photos32", "steps": 2}}\n')
    assert main([*TINY, "--out", str(tmp_path), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and len(err.splitlines()) == 1


def test_paper_figures_are_the_papers():
    assert np.array([[PAPER[lr][decoded] for decoded in ("NaiveExp", "Exp", "Bounded")] for lr in (0.008, 0.007, 0.006)]).sum() == \
        (10 + 10 + 10 + 7 + 10 + 8) + (10 + 4 + 8 + 7 + 9 + 3) + (7 + 5 + 9 + 6 + 3 + 2)
