"""The inspect command: blocks, origins and reasons behind skipped updates, the run over time, exit codes."""

import json
import math
import signal
import subprocess
import sys

import pytest

from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import read_run
from vdvae.tools.inspect import cell, main, report

HPARAMS = {"seed": 2, "sigma_param": "exp", "prior_const1": False, "dataset": "photos32"}
EVENTS = [
    {"step": 5, "reason": "rate_nan", "rank": 0, "block": 3, "resolution": 4, "quantity": "kl",
     "prior_log_sigma_min": math.nan, "prior_log_sigma_max": 2.0, "posterior_log_sigma_min": -7.0,
     "posterior_log_sigma_max": math.nan, "max_loc_diff_over_sigma": 1e20},
    {"step": 5, "reason": "grad_nan", "rank": 1, "block": 3, "resolution": 4, "quantity": "kl",
     "prior_log_sigma_min": -60.5, "prior_log_sigma_max": 3.0, "posterior_log_sigma_min": -9.0,
     "posterior_log_sigma_max": 45.0, "max_loc_diff_over_sigma": math.inf},
    {"step": 25, "reason": "high_grad", "rank": 0, "block": 3, "resolution": 4, "quantity": "grad"},
    {"step": 40, "reason": "high_grad", "rank": 0, "block": 0, "resolution": 1, "quantity": None,
     "prior_log_sigma_min": None, "posterior_log_sigma_max": None},
    {"step": 41, "reason": "distortion_nan", "rank": 0, "origin": "likelihood", "block": None, "quantity": "nll"},
]


def train_line(step, elbo, grad_norm, **totals):
    counts = {key: totals.get(name, 0) for name, key in TOTAL_KEYS.items()}
    return {"type": "train_loss", "step": step, "elbo": elbo, "elbo_filtered": 2.0, "grad_norm": grad_norm,
            "distortion_nans": 0, "rate_nans": 0, "skipped_updates": 0} | counts


@pytest.fixture
def run_folder(tmp_path):
    """A run of 100 updates: one with a NaN rate and gradient, two high gradients, one NaN distortion."""
    final = dict(skipped_updates=4, nan_updates=2, rate_nan=1, grad_nan=1, distortion_nan=1, high_grad=2)
    lines = [{"type": "hparam", "key": key, "value": value} for key, value in HPARAMS.items()] + [
        train_line(10, math.nan, 3.0, skipped_updates=1, nan_updates=1, rate_nan=1, grad_nan=1),
        train_line(45, 4.0, 900.0, **final), train_line(50, 3.0, 5.0, **final),
        train_line(95, 2.0, 6.0, **final), train_line(100, 2.0, math.nan, **final),
        {"type": "test_loss", "step": 100, "elbo": 2.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [{"origin": "decoder", "skipped": True, **event} for event in EVENTS]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return tmp_path


@pytest.fixture
def original_folder(tmp_path):
    lines = [{"type": "hparam", "key": "seed", "value": 0}, {"type": "hparam", "key": "iters_per_print", "value": 10}]
    for step in (0, 1, 8, 10):
        lines.append({"type": "train_loss", "step": step, "elbo": 2.5, "elbo_filtered": 2.5, "grad_norm": 1.0,
                      "distortion_nans": 0.0, "rate_nans": 1.0 * (step == 10), "skipped_updates": 2 * (step == 10)})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_blocks_are_sorted_by_events_with_their_extremes(run_folder):
    blocks = report(read_run(run_folder))["blocks"]
    assert [(block["block"], block["resolution"], block["events"]) for block in blocks] == [(3, 4, 3), (0, 1, 1)]
    worst = blocks[0]
    assert worst["reasons"] == {"rate_nan": 1, "grad_nan": 1, "high_grad": 1}
    assert worst["quantities"] == {"kl": 2, "grad": 1}
    assert (worst["prior_log_sigma_min"], worst["prior_log_sigma_max"]) == (-60.5, 3.0)
    assert (worst["posterior_log_sigma_min"], worst["posterior_log_sigma_max"]) == (-9.0, 45.0)
    assert worst["max_loc_diff_over_sigma"] == math.inf
    assert worst["nan_figures"] == 1
    assert blocks[1]["prior_log_sigma_min"] is None and blocks[1]["nan_figures"] == 0


def test_origins_outside_the_decoder(run_folder):
    assert report(read_run(run_folder))["other_origins"] == [
        {"origin": "likelihood", "events": 1, "reasons": {"distortion_nan": 1}, "quantities": {"nll": 1}}]


def test_the_smallest_scale_of_a_pixel_is_shown(run_folder, capsys):
    assert report(read_run(run_folder))["smallest_pixel_scale"] is None
    with open(run_folder / "events.jsonl", "a") as file:
        for step, pixel, log_sigma in ((50, "3,7,0", -4.0), (60, "9,8,2", -80.5), (70, "1,2,0", -5)):
            file.write(json.dumps(EVENTS[-1] | {"step": step, "pixel": pixel, "pixel_log_sigma": log_sigma}) + "\n")
    assert main([str(run_folder)]) == 0
    assert "log sigma -80.5 at row, column, channel 9,8,2, step 60" in capsys.readouterr().out
    with open(run_folder / "events.jsonl", "a") as file:
        file.write(json.dumps(EVENTS[-1] | {"step": 80, "pixel": "0,0,1", "pixel_log_sigma": math.nan}) + "\n")
    assert report(read_run(run_folder))["smallest_pixel_scale"]["pixel"] == "0,0,1"


def test_reasons_have_updates_and_steps(run_folder):
    reasons = {row["reason"]: tuple(row.values())[1:] for row in report(read_run(run_folder))["reasons"]}
    assert reasons == {
        "rate_nan": (1, 5, 5), "distortion_nan": (1, 41, 41), "grad_nan": (1, 5, 5), "high_grad": (2, 25, 40)}


def test_over_time_cuts_the_run_in_ten(run_folder):
    rows = report(read_run(run_folder))["over_time"]
    assert [(row["first_step"], row["last_step"]) for row in rows[:2]] == [(0, 10), (11, 20)]
    assert len(rows) == 10 and rows[-1]["last_step"] == 100
    assert (rows[0]["skipped_updates"], rows[0]["nan_updates"], rows[0]["high_gradients"]) == (1, 1, 0)
    assert math.isnan(rows[0]["mean_loss"]) and rows[0]["mean_finite_loss"] == 2.0
    assert rows[1]["skipped_updates"] is None and rows[1]["mean_loss"] is None
    fifth = rows[4]  # steps 41 to 50, two lines
    assert (fifth["skipped_updates"], fifth["nan_updates"], fifth["high_gradients"]) == (3, 1, 2)
    assert (fifth["mean_loss"], fifth["max_grad_norm"]) == (3.5, 900.0)
    assert math.isnan(rows[-1]["max_grad_norm"])  # the largest of 6 and NaN


@pytest.mark.parametrize("last, n_ranges", [(0, 1), (3, 3), (25, 10)])
def test_short_runs_have_every_step_in_one_range(tmp_path, last, n_ranges):
    lines = [{"type": "hparam", "key": "sigma_param", "value": "exp"}, train_line(last, 2.0, math.nan)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = report(read_run(tmp_path))["over_time"]
    assert len(rows) == n_ranges
    assert [step for row in rows for step in range(row["first_step"], row["last_step"] + 1)] == list(range(last + 1))
    assert math.isnan(rows[-1]["max_grad_norm"])


def test_text_shows_the_run_and_its_tables(run_folder, capsys):
    assert main([str(run_folder)]) == 0
    text = capsys.readouterr().out
    assert f"run: {run_folder}\nparameterization: exp\nseed: 2\ndataset: photos32\nlast step: 100\n" in text
    assert "final loss: 2.0000 nats/dim, 2.8854 bits/dim (split: test)" in text  # 2 / ln 2
    assert "skipped updates: 4, of them NaN: 2" in text
    row = next(line for line in text.splitlines() if line.startswith("3 "))
    assert row.split("  ")[0] == "3" and "rate_nan 1, grad_nan 1, high_grad 1" in row and "-60.5 .. 3 " in row
    assert "-9 .. 45 " in row and row.split()[-2:] == ["inf", "1"]


def test_json_is_the_same_report(run_folder, capsys):
    assert main([str(run_folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.dumps(printed) == json.dumps(report(read_run(run_folder)))


def test_original_log_says_what_it_lacks(original_folder, capsys):
    assert main([str(original_folder)]) == 0
    text = capsys.readouterr().out
    assert "parameterization: original" in text and "skipped updates: 2, of them NaN: 1" in text
    assert "note: the original code's log: it has no sigma_param, no events" in text
    assert "windows of 10 updates, up to step 10" in text


def test_cells():
    values = (None, math.nan, -math.inf, 1234567, 1 / 3, {"a": 2, "b": 1})
    assert [cell(value) for value in values] == ["-", "nan", "-inf", "1234567", "0.33333", "a 2, b 1"]


def test_exit_codes_of_the_command(run_folder, tmp_path):
    def inspect(path):
        command = [sys.executable, "-m", "vdvae.inspect", str(path)]
        return subprocess.run(command, capture_output=True, text=True)
    assert inspect(run_folder).returncode == 0
    missing = inspect(tmp_path / "nowhere")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("inspect: ") and missing.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["vdvae.inspect", "vdvae.compare"])
def test_a_reader_that_closes_early_ends_the_command_in_silence(run_folder, module):
    command = subprocess.Popen([sys.executable, "-m", module, str(run_folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.stdout.close()
    assert command.stderr.read() == b"" and command.wait() == -signal.SIGPIPE


def test_log_readers_start_without_torch_and_mpi():
    code = "import vdvae.tools.compare, vdvae.tools.inspect, sys; sys.exit(bool({'torch', 'mpi4py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
