"""The counts that are copied into a checkout: reasons, totals and events.jsonl as vdvae.tools.inspect reads them."""

import importlib.util
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vdvae.records.step_report import NAN_REASONS
from vdvae.tools.inspect import report
from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import read_run

SPEC = importlib.util.spec_from_file_location(
    "update_log", Path(__file__).resolve().parents[2] / "patches" / "glue" / "update_log.py"
)
update_log = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(update_log)


class Dictionary(dict):
    """Hyper-parameters as the original keeps them."""

    __getattr__ = dict.get


HOLDERS = [Dictionary, lambda **values: SimpleNamespace(**values), dict]


def figures(skipped=0, rate_nans=0.0, distortion_nans=0.0, grad_norm=3.0, **more):
    return dict(elbo=2.5, rate=0.5, distortion=2.0, skipped_updates=skipped, rate_nans=rate_nans,
                distortion_nans=distortion_nans, grad_norm=grad_norm, iter_time=0.1) | more  # fmt: skip


NAN, INF = math.nan, math.inf
APPLIED = figures()
RATE, BOTH = figures(1, rate_nans=0.5, rate=NAN, grad_norm=NAN), figures(1, 1, 1, NAN)
GRAD, HIGH = figures(1, grad_norm=NAN), figures(1, grad_norm=900.0)
NAMES = ("skipped_updates", "nan_updates", "rate_nans", "distortion_nans", "grad_nans", "high_grads")


def totals(*counts):
    return {f"total_{name}": count for name, count in zip(NAMES, counts)}


def events(folder):
    file = folder / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


REASONS = [
    (APPLIED, [], totals(0, 0, 0, 0, 0, 0)),
    (figures(grad_norm=900.0), [], totals(0, 0, 0, 0, 0, 0)),  # no threshold
    (RATE, ["rate_nan"], totals(1, 1, 1, 0, 0, 0)),
    (figures(1, distortion_nans=0.25), ["distortion_nan"], totals(1, 1, 0, 1, 0, 0)),
    (BOTH, ["rate_nan", "distortion_nan"], totals(1, 1, 1, 1, 0, 0)),
    (figures(1, rate=INF, grad_norm=NAN), ["rate_nan"], totals(1, 1, 1, 0, 0, 0)),
    (figures(1, distortion=-INF, grad_norm=NAN), ["distortion_nan"], totals(1, 1, 0, 1, 0, 0)),
    (GRAD, ["grad_nan"], totals(1, 1, 0, 0, 1, 0)),
    (figures(1, grad_norm=INF), ["grad_nan"], totals(1, 1, 0, 0, 1, 0)),
    (HIGH, ["high_grad"], totals(1, 0, 0, 0, 0, 1)),
    (figures(0, grad_norm=NAN), ["grad_nan"], totals(0, 1, 0, 0, 1, 0)),  # applied all the same
    (figures(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(0.0), torch.tensor(NAN)), ["rate_nan"], totals(1, 1, 1,
     0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("stats", "reasons", "expected"), REASONS)
def test_reasons_and_counts(tmp_path, stats, reasons, expected):
    log = update_log.UpdateLog(SimpleNamespace(save_dir=str(tmp_path), rank=0))
    log.count(7, stats)
    assert log.totals() == expected and all(type(count) is int for count in log.totals().values())
    written = events(tmp_path)
    assert [event["reason"] for event in written] == reasons
    for event in written:
        assert (event["step"], event["skipped"], event["origin"]) == (7, bool(stats["skipped_updates"]), "unknown")
        assert repr(event["grad_norm"]) == repr(float(stats["grad_norm"])) and event["elbo"] == 2.5


def test_totals_before_the_first_update_are_zero(tmp_path):
    assert update_log.UpdateLog({"save_dir": tmp_path}).totals() == totals(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize(("rank", "writes"), [({"rank": 0}, True), ({"rank": None}, True), ({}, True), ({"rank": 1},
    False)])
def test_rank_0_writes_and_the_others_count(tmp_path, holder, rank, writes):
    log = update_log.UpdateLog(holder(save_dir=str(tmp_path), **rank))
    log.count(1, HIGH)
    assert log.totals()["total_high_grads"] == 1
    assert bool(events(tmp_path)) is writes


@pytest.mark.parametrize("holder", HOLDERS)
def test_without_a_folder_nothing_starts(holder):
    with pytest.raises(ValueError, match="H.save_dir is None, a folder for events.jsonl is needed"):
        update_log.UpdateLog(holder(save_dir=None))


def train(folder, start, *updates):
    """A run of the patched original from `start` on, with its log lines; returns the totals at its end."""
    log = update_log.UpdateLog(SimpleNamespace(save_dir=str(folder), rank=0))
    with open(folder / "log.jsonl", "a") as file:
        for key, value in {"sigma_param": "explin", "seed": 0, "dataset": "cifar10"}.items():
            file.write(json.dumps({"type": "hparam", "key": key, "value": value}) + "\n")
        for step, stats in enumerate(updates, start):
            log.count(step, stats)
            line = stats | {"type": "train_loss", "step": step, "elbo_filtered": 2.5} | log.totals()
            file.write(json.dumps(line) + "\n")
    return log.totals()


def test_inspect_reads_the_run(tmp_path):
    train(tmp_path, 0, APPLIED, RATE, BOTH, APPLIED, GRAD, HIGH, HIGH)
    run = read_run(tmp_path)
    shown = report(run)
    assert run.notes == [] and run.parameterization == "explin"
    assert (run.counts["skipped_updates"], run.counts["nan_updates"], run.counts["high_grad"]) == (5, 3, 2)
    assert [(row["reason"], row["updates"], row["first_step"], row["last_step"]) for row in shown["reasons"]] == [
        ("rate_nan", 2, 1, 2), ("distortion_nan", 1, 2, 2), ("grad_nan", 1, 4, 4), ("high_grad", 2, 5, 6),
    ]  # fmt: skip
    assert shown["blocks"] == [] and [row["origin"] for row in shown["other_origins"]] == ["unknown"]


def test_resumed_run_goes_on_counting(tmp_path):
    train(tmp_path, 0, BOTH, APPLIED, HIGH)
    assert train(tmp_path, 3, RATE, APPLIED) == totals(3, 2, 2, 1, 0, 1)
    run = read_run(tmp_path)
    assert run.notes == [] and (run.counts["skipped_updates"], run.counts["nan_updates"], run.counts["high_grad"]) == (3, 2, 1)


def test_updates_past_the_point_of_resumption_count_once(tmp_path):
    train(tmp_path, 0, HIGH, RATE, HIGH, HIGH)
    assert train(tmp_path, 2, APPLIED, APPLIED, HIGH) == totals(3, 1, 1, 0, 0, 2)
    assert train(tmp_path, 5, HIGH) == totals(4, 1, 1, 0, 0, 3)
    run = read_run(tmp_path)
    assert (run.counts["skipped_updates"], run.counts["nan_updates"], run.counts["high_grad"]) == (4, 1, 3)
    assert run.events["step"].tolist() == [0, 1, 4, 5]
    assert len(run.notes) == 1 and "went back" in run.notes[0]  # nothing on counts that disagree
    abandoned = (tmp_path / "events-abandoned.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in abandoned] == [2, 3]


def test_applied_nan_gradient_stays_apart_when_a_run_is_resumed(tmp_path):
    train(tmp_path, 0, figures(0, grad_norm=NAN), GRAD)
    assert train(tmp_path, 2, APPLIED) == totals(1, 2, 0, 0, 2, 0)


def test_line_cut_off_by_a_crash_does_not_spoil_the_file(tmp_path):
    train(tmp_path, 0, HIGH, HIGH)
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"step": 1, "rea')
    assert train(tmp_path, 2, HIGH)["total_skipped_updates"] == 3
    assert read_run(tmp_path).events["step"].tolist() == [0, 1, 2]


def test_other_ranks_leave_the_file_alone(tmp_path):
    train(tmp_path, 0, HIGH, HIGH)
    before = (tmp_path / "events.jsonl").read_bytes()
    update_log.UpdateLog(SimpleNamespace(save_dir=tmp_path, rank=1)).count(0, HIGH)
    assert (tmp_path / "events.jsonl").read_bytes() == before


def test_names_are_those_of_the_log_readers():
    assert update_log.NAN_REASONS == NAN_REASONS
    assert [f"total_{name}" for name in update_log.NAMES] == list(TOTAL_KEYS.values())
