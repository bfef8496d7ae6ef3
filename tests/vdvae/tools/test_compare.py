"""The compare command: means and deviations over seeds, order of groups, warnings about unlike runs."""

import json
import math
import sys
from pathlib import Path

import pytest

from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import read_run
from vdvae.tools.compare import main, report, spread

HPARAMS = {"dataset": "cifar10", "width": 384, "lr": 2e-4, "n_batch": 16, "prior_const1": False}


@pytest.fixture
def write_run(tmp_path):
    """Write a run with a test loss and one train line; returns its folder as a string."""
    def write(name, sigma_param="explin", seed=0, elbo=2.0, step=100, high=0, nan=0, split="test", **hparams):
        hparams = HPARAMS | {"sigma_param": sigma_param, "seed": seed} | hparams
        totals = {"skipped_updates": high + nan, "nan_updates": nan, "rate_nan": nan, "high_grad": high}
        train = {"type": "train_loss", "step": step, "elbo": 3.0, "elbo_filtered": 3.0, "grad_norm": 1.0,
                 "distortion_nans": 0, "rate_nans": 0, "skipped_updates": 0}
        train |= {key: totals.get(name, 0) for name, key in TOTAL_KEYS.items()}
        kind = {"test": "test_loss", "valid": "eval_loss"}[split]
        lines = [{"type": "hparam", "key": key, "value": value} for key, value in hparams.items()]
        lines += [train, {"type": kind, "step": step, "elbo": elbo}]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        events = [{"step": n, "reason": "high_grad" if n < high else "rate_nan", "origin": "decoder", "skipped": True}
                  for n in range(high + nan)]
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return str(folder)
    return write


def compare(*paths):
    return report([read_run(path) for path in paths])


def test_mean_and_sample_deviation_by_hand():
    assert spread([2.0, 4.0, 9.0]) == (5.0, pytest.approx(math.sqrt(13)))  # (9 + 1 + 16) / 2
    assert spread([7.0]) == (7.0, None)
    assert spread([1, None]) == (None, None)
    assert all(map(math.isnan, spread([2.0, math.nan])))


def test_group_figures_over_seeds(write_run, capsys):
    paths = [write_run(f"r{seed}", seed=seed, elbo=elbo, high=high, nan=nan)
             for seed, elbo, high, nan in ((0, 2.00, 1, 0), (1, 2.02, 3, 2), (2, 2.07, 8, 1))]
    assert main(paths) == 0
    table = [[part.strip() for part in line.split("|")] for line in capsys.readouterr().out.splitlines()[:3]]
    assert table[2][1:10] == [  # deviations: sqrt(13), 1, 4, sqrt(0.0013) nats, that over ln 2
        "explin", "3", "0, 1, 2", "4.0 ± 3.6", "1.0 ± 1.0", "5.0 ± 4.0", "2.030 ± 0.036", "2.929 ± 0.052", "test"]


def test_one_run_has_no_deviation(write_run, capsys):
    assert main([write_run("a", high=3, elbo=2.0141)]) == 0
    text = capsys.readouterr().out
    assert "±" not in text and "warning" not in text and "note" not in text
    assert [part.strip() for part in text.splitlines()[2].split("|")][4:8] == ["3", "0", "3", "2.014"]


def test_a_loss_that_blew_up_stays_readable(write_run, capsys):
    assert main([write_run("a", elbo=1.1162e26), write_run("b", elbo=4.5, seed=1)]) == 0
    assert "5.58e+25 ± 7.89e+25" in capsys.readouterr().out


def test_groups_follow_table_4(write_run):
    order = [("vanilla", False), ("upbounded1", False), ("explin", False), ("vanilla", True), ("upbounded1", True),
             ("explin", True), ("bounded0.1_1", False), ("exp", False)]
    paths = [write_run(f"r{n}", sigma_param=name, prior_const1=const1) for n, (name, const1) in enumerate(order)]
    labels = [group["parameterization"] for group in compare(*reversed(paths))["groups"]]
    assert labels == ["vanilla", "upbounded1", "explin", "vanilla/prior_const1", "upbounded1/prior_const1",
                      "explin/prior_const1", "bounded0.1_1", "exp"]


def test_single_runs_are_listed_with_their_counts(write_run):
    path = write_run("a", seed=4, high=2, nan=1, elbo=2.0)
    assert compare(path)["runs"] == [{
        "run": path, "seed": 4, "parameterization": "explin", "steps": 100, "skipped_updates": 3, "rate_nan": 1,
        "distortion_nan": 0, "grad_nan": 0, "high_grad": 2, "nelbo": 2.0, "bits_per_dim": pytest.approx(2.885390082),
        "split": "test"}]


def test_nan_loss_is_shown_not_dropped(write_run, capsys):
    good, bad = write_run("good", seed=0), write_run("bad", seed=1, elbo=math.nan)
    assert main([good, bad]) == 0
    text = capsys.readouterr().out
    assert [part.strip() for part in text.splitlines()[2].split("|")][7:9] == ["nan", "nan"]
    assert f"warning: {bad}: the final loss is nan (split: test)" in text


def test_differing_hyper_parameters_are_named_with_their_values(write_run):
    rates = {"a": 1e-4, "b": 2e-4, "c": 1e-4}
    a, b, c = (write_run(name, seed=n, lr=lr, desc=name) for n, (name, lr) in enumerate(rates.items()))
    assert compare(a, b, c)["warnings"] == [f"runs differ in lr: 0.0001 ({a}, {c}); 0.0002 ({b})"]


def test_of_many_runs_those_that_differ_from_most_are_named(write_run):
    runs = [write_run(f"r{n}", seed=n, lr=2e-4 if n == 2 else 1e-4) for n in range(6)]
    assert compare(*runs)["warnings"] == [f"runs differ in lr: 0.0001 (the other 5 runs); 0.0002 ({runs[2]})"]


@pytest.mark.parametrize("key, value", [
    ("dataset", "imagenet32"), ("enc_blocks", "8x2"), ("dec_blocks", "1x1,8m1"), ("width", 8), ("n_batch", 1),
    ("skip_threshold", -1), ("num_iters", 50), ("num_epochs", 3), ("precision", "bf16"), ("optimizer", "apex"),
    ("compile", True), ("mpi_size", 2)])
def test_every_hyper_parameter_that_matters_is_compared(write_run, key, value):
    base = {"enc_blocks": "8x1", "dec_blocks": "1x1", "skip_threshold": 400, "num_iters": 100, "num_epochs": 1,
            "precision": "fp32", "optimizer": "adamw", "compile": False, "mpi_size": 1}
    warnings = compare(write_run("a", **base), write_run("b", seed=1, **base | {key: value}))["warnings"]
    assert len(warnings) == 1 and warnings[0].startswith(f"runs differ in {key}: ") and str(value) in warnings[0]


@pytest.mark.parametrize("key, value", [("desc", "b"), ("iters_per_print", 7), ("data_root", "/elsewhere"), ("num_workers", 2)])
def test_what_computes_nothing_is_not_compared(write_run, key, value):
    base = {"desc": "a", "iters_per_print": 100, "data_root": "./", "num_workers": None}
    assert compare(write_run("a", **base), write_run("b", seed=1, **base | {key: value}))["warnings"] == []


def test_a_hyper_parameter_that_one_log_lacks_is_no_difference(write_run):
    assert compare(write_run("a"), write_run("b", seed=1, num_iters=5))["warnings"] == []


def test_a_value_that_is_a_list_is_compared_too(write_run):
    a, b = write_run("a", width=[8, 16]), write_run("b", seed=1, width=[8, 32])
    assert compare(a, b)["warnings"] == [f"runs differ in width: [8, 16] ({a}); [8, 32] ({b})"]


def test_differing_split_and_final_step_are_said(write_run):
    a, b = write_run("a"), write_run("b", seed=1, split="valid", step=90)
    result = compare(a, b)
    assert result["warnings"] == [
        f"runs differ in split: test ({a}); valid ({b})", f"runs differ in final step: 100 ({a}); 90 ({b})"]
    assert result["groups"][0]["splits"] == ["test", "valid"]


def test_same_parameterization_and_seed_twice_is_said(write_run):
    runs = write_run("a"), write_run("b"), write_run("c", sigma_param="exp")
    assert compare(*runs)["warnings"] == ["2 runs have parameterization explin and seed 0"]


def test_notes_of_the_runs_are_passed_on(write_run, tmp_path, capsys):
    path = write_run("a", high=1)
    (tmp_path / "a" / "events.jsonl").unlink()
    assert main([path]) == 0
    assert f"note: {path}: events.jsonl is missing" in capsys.readouterr().out


def test_unknown_counts_make_the_mean_unknown(write_run, tmp_path, capsys):
    known, tested = write_run("a", high=2), tmp_path / "tested.jsonl"
    lines = [{"type": "hparam", "key": "sigma_param", "value": "explin"}, {"type": "test_loss", "elbo": 2.0}]
    tested.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main([known, str(tested)]) == 0
    row = [part.strip() for part in capsys.readouterr().out.splitlines()[2].split("|")]
    assert row[3:7] == ["0, -", "-", "-", "-"] and row[7] == "2.000 ± 0.000"


def test_a_run_failed_by_a_nan_by_its_final_loss_or_by_getting_stuck(write_run):
    runs = {"nan": {"nan": 1}, "loss": {"elbo": math.inf}, "stuck": {"high": 3, "step": 2}, "high": {"high": 2, "step": 2},
            "freed": {"high": 3, "step": 4}}
    groups = compare(*(write_run(name, name, max_consecutive_skips=3, **values) for name, values in runs.items()))["groups"]
    failed = {group["parameterization"]: group["failed"] for group in groups}
    assert failed == {"nan": 1, "loss": 1, "stuck": 1, "high": 0, "freed": 0}


def test_the_text_ends_with_the_verdict_and_the_next_command(write_run, capsys):
    vanilla = write_run("v 1", "vanilla", high=2, nan=3)
    assert main([write_run("a", high=1), vanilla]) == 0
    verdict, other, _, scales, _, following = capsys.readouterr().out.splitlines()[-6:]  # after them the rule, an empty line
    assert verdict.startswith("vanilla: 1 of 1 runs failed, NaN updates 3, ") and other.startswith("explin: 0 of 1 runs failed, ")
    assert "--stable" in scales
    python, command = following.removeprefix("Next, where it began: ").split(" ", 1)
    assert Path(python).resolve() == Path(sys.executable).resolve() and command == f"-m vdvae.inspect '{vanilla}'"


def test_json_is_the_same_report(write_run, capsys):
    paths = [write_run("a"), write_run("b", seed=1, high=2)]
    assert main([*paths, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["groups"][0]["high_gradients"] == {"mean": 1.0, "std": pytest.approx(math.sqrt(2))}
    assert printed.keys() == {"groups", "runs", "warnings", "notes", "verdict", "next"}


def test_bad_run_ends_with_code_2_and_one_line(write_run, tmp_path, capsys):
    assert main([write_run("a"), str(tmp_path / "nowhere")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("compare: ") and "nowhere" in err and err.count("\n") == 1
