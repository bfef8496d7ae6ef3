"""Whole runs: the files they leave, how they resume, what they refuse."""

import json
import math
from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch

from tests.vdvae.runs import TINY
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import StartError, World
from vdvae.ranks.randomness import seed_noise
from vdvae.records.run_log import read_run
from vdvae.settings.hparams import load_hparams
from vdvae.training.run import run

ORIGINAL_KEYS = {"lr", "epoch", "step", "elbo", "elbo_filtered", "distortion", "rate", "grad_norm", "distortion_nans", "rate_nans",
                 "skipped_updates", "iter_time", "model", "type", "time"}


def train(folder: Path, *flags) -> Path:
    run(load_hparams([*TINY, "--save_dir", str(folder), "--desc", "run", *map(str, flags)]), World())
    return folder / "run"


def records(path: Path, kind: str) -> list[dict]:
    return [line for line in map(json.loads, path.read_text().splitlines()) if line.get("type") == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "--iters_per_save", 5, "--iters_per_ckpt", 10, "--iters_per_images", 6)


def test_the_files_of_a_run(finished):
    four = ("model.th", "model-ema.th", "opt.th", "log.jsonl")
    expected = {"log.jsonl", "log.txt", "state", "finished.json", *(f"latest-{name}" for name in four), *(f"iter-10-{name}" for name in four)}
    assert {path.name for path in finished.iterdir()} == expected | {f"samples-{n}.png" for n in (0, 6, 12)}
    assert imageio.imread(finished / "samples-12.png").shape == (3 * 32, 3 * 32, 3)  # originals, one partial, one sample


def test_log_lines_have_the_originals_keys_and_cover_each_update_once(finished):
    lines = records(finished / "log.jsonl", "train_loss")
    assert all(ORIGINAL_KEYS | {"bits_per_dim", "grad_nans", "high_grads", "total_skipped_updates"} <= line.keys() for line in lines)
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 11 and {1, 5, 8, 10} <= set(steps)
    for line in lines:
        assert line["bits_per_dim"] == pytest.approx(line["elbo"] / math.log(2))
        assert line["elbo"] == pytest.approx(line["distortion"] + line["rate"], rel=1e-5)
        assert 0 <= line["data_time"] < line["iter_time"]
    assert [line["lr"] for line in lines if line["step"] in (0, 5, 11)] == pytest.approx([0, 0.015, 0.03])
    hparams = {line["key"]: line["value"] for line in records(finished / "log.jsonl", "hparam")}
    assert (hparams["sigma_param"], hparams["n_batch"], hparams["mpi_size"]) == ("explin", 4, 1)
    last = records(finished / "log.jsonl", "eval_loss")[-1]
    assert (last["step"], last["n_images"]) == (12, 10) and last["elbo"] == pytest.approx(last["distortion"] + last["rate"])


def test_scales_that_start_apart_are_named_when_a_run_begins(finished, tmp_path):
    scales = ("--sigma_param", "upbounded1", "--prior_const1", "--num_iters", 1)
    apart = train(tmp_path, *scales)
    first = records(apart / "log.jsonl", "train_loss")[0]
    (line,) = [line for line in (apart / "log.txt").read_text().splitlines() if "start apart" in line]
    assert float(line.split("begins at ")[1].split()[0]) == pytest.approx(first["rate"], rel=0.02)
    again = train(tmp_path / "given", *scales, "--restore_path", apart / "latest-model.th")
    assert not any("start apart" in (folder / "log.txt").read_text() for folder in (finished, again))


def test_it_evaluates_after_every_so_many_epochs_and_at_the_end(tmp_path):
    folder = train(tmp_path, "--epochs_per_eval", 2)  # of two updates each
    assert [(line["epoch"], line["step"]) for line in records(folder / "log.jsonl", "eval_loss")] == [(0, 2), (2, 6), (4, 10), (5, 12)]


def test_training_learns(finished):
    lines = records(finished / "log.jsonl", "train_loss")
    assert lines[-1]["elbo"] < lines[0]["elbo"] - 0.05


def test_skipped_updates_are_counted_located_and_change_nothing(tmp_path):
    folder = train(tmp_path, "--skip_threshold", 1e-9)
    lines = records(folder / "log.jsonl", "train_loss")
    assert sum(line["skipped_updates"] for line in lines) == sum(line["high_grads"] for line in lines) == 12
    assert lines[-1]["total_skipped_updates"] == lines[-1]["total_high_grads"] == 12 and lines[-1]["total_nan_updates"] == 0
    assert all(type(line["skipped_updates"]) is int for line in lines)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == list(range(12))
    for event in events:
        assert (event["reason"], event["rank"], event["skipped"]) == ("high_grad", 0, True)
        assert event["grad_norm"] > 1e-9 and event["elbo"] == pytest.approx(event["distortion"] + event["rate"], rel=1e-5)
        assert event["origin"] == "decoder" and event["resolution"] == [1, 4, 32][event["block"]]
    torch.manual_seed(0)
    untrained = VAE(load_hparams(TINY)).state_dict()
    saved = torch.load(folder / "latest-model.th", weights_only=True)
    assert all(torch.equal(saved[name], untrained[name]) for name in untrained)
    assert read_run(folder).counts["high_grad"] == 12


def test_a_second_run_into_the_same_folder_is_refused(finished):
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(StartError, match="holds a run already.*--desc.*--resume"):
        train(finished.parent)
    assert {path: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_a_run_goes_on_from_the_four_files(finished, tmp_path):
    """Its weights are those saved, its steps follow, its optimizer steps too."""
    latest = finished / "latest"
    folder = train(tmp_path, "--restore_path", f"{latest}-model.th", "--restore_ema_path", f"{latest}-model-ema.th",
                   "--restore_optimizer_path", f"{latest}-opt.th", "--restore_log_path", f"{latest}-log.jsonl", "--num_iters", 15)
    lines = records(folder / "log.jsonl", "train_loss")
    assert [line["step"] for line in lines] == [13, 14]  # the second update of the run, as of every run, and the last
    assert lines[-1]["elbo"] < records(finished / "log.jsonl", "train_loss")[0]["elbo"] - 0.05
    assert torch.load(folder / "latest-opt.th", weights_only=True)["param_groups"][0]["step"] == 15
    untouched = train(tmp_path / "more", "--restore_path", f"{latest}-model.th", "--restore_ema_path", f"{latest}-model-ema.th",
                      "--num_iters", 0)
    for name in ("model.th", "model-ema.th"):
        old, new = (torch.load(f"{prefix}-{name}", weights_only=True) for prefix in (latest, untouched / "latest"))
        assert all(torch.equal(old[key], new[key]) for key in old)


def test_test_eval_scores_the_averaged_weights(finished, tmp_path, capsys):
    last = records(finished / "log.jsonl", "eval_loss")[-1]
    train(tmp_path, "--test_eval", "--restore_ema_path", finished / "latest-model-ema.th")
    (test,) = records(tmp_path / "run" / "log.jsonl", "test_loss")
    assert test["elbo"] == last["elbo"] and test["n_images"] == 10  # the same ten images, the same noise
    assert f"elbo: {test['elbo']:.5f}" in capsys.readouterr().out


def test_evaluation_and_saved_weights_are_float32_whatever_trains(tmp_path):
    folder = train(tmp_path / "a", "--precision", "bf16", "--checkpoint_blocks")
    files = [torch.load(folder / f"latest-{name}.th", weights_only=True) for name in ("model", "model-ema")]
    assert {tensor.dtype for file in files for tensor in file.values()} == {torch.float32}
    train(tmp_path / "b", "--plain", "--test_eval", "--restore_ema_path", folder / "latest-model-ema.th")
    (test,) = records(tmp_path / "b" / "run" / "log.jsonl", "test_loss")
    evaluated = records(folder / "log.jsonl", "eval_loss")[-1]["elbo"]
    assert test["elbo"] == pytest.approx(evaluated, rel=1e-6)  # sums of another layout round differently


@pytest.mark.parametrize("flags, said", [
    (["--plain"], "acceleration: plain, convolutions in fp32"),
    (["--precision", "bf16", "--accumulate_steps", 2, "--checkpoint_blocks"],
     "acceleration: convolutions in bf16, channels last, checkpoint_blocks, batches in 2 parts")])
def test_the_log_says_what_was_on_in_each_session(tmp_path, flags, said):
    train(tmp_path, *flags, "--num_iters", 1)
    folder = train(tmp_path, *flags, "--num_iters", 2, "--resume")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line.get("message") for line in log].count(said) == 2
    assert {line["key"]: line["value"] for line in log if "key" in line}["precision"] in said


def test_test_at_end_scores_what_test_eval_would(tmp_path):
    flags = ["--dataset", "photos32", "--num_iters", 3, "--n_batch", 128]
    folder = train(tmp_path / "a", *flags, "--test_at_end")
    (at_end,) = records(folder / "log.jsonl", "test_loss")
    assert at_end["step"] == 3 and read_run(folder).final_nelbo.split == "test"
    scored = train(tmp_path / "b", *flags, "--test_eval", "--restore_ema_path", folder / "latest-model-ema.th")
    (alone,) = records(scored / "log.jsonl", "test_loss")
    assert all(at_end[key] == alone[key] for key in alone.keys() - {"time"})


def test_a_batch_that_the_images_cannot_fill_is_refused(tmp_path):
    with pytest.raises(StartError, match="n_batch 11 on 1 ranks.*photos32_ten has 10"):
        train(tmp_path, "--n_batch", 11)
    assert not (tmp_path / "run").exists()


def test_ranks_draw_different_noise_and_the_same_again(tmp_path):
    draws = []
    for seed, rank in ((0, 0), (0, 1), (1, 0), (0, 0)):
        seed_noise(seed, World(rank, 2))
        draws.append(torch.randn(4).tolist())
    assert draws[0] == draws[3] and draws[0] != draws[1] and draws[0] != draws[2] and draws[1] != draws[2]


def test_command_line_on_two_ranks(run_mpi, run_python, tmp_path):
    """The user's own lines: train on two ranks, inspect, compare."""
    started = run_mpi(2, "train.py", *TINY, "--num_iters", 4, "--skip_threshold", 1e-9, "--save_dir", tmp_path, "--desc", "two")
    assert started.returncode == 0, started.stderr
    *_, last = [line for line in started.stderr.splitlines() if line.startswith("step 4/4, loss ")]
    assert "bits/dim, skipped 4, NaN 0" in last
    assert "\r" not in started.stderr + started.stdout and "FutureWarning" not in started.stderr
    lines = records(tmp_path / "two" / "log.jsonl", "train_loss")
    assert [line["step"] for line in lines] == [0, 1, 3]  # one rank writes, each update counts once
    assert lines[-1]["total_skipped_updates"] == 4
    events = [json.loads(line) for line in (tmp_path / "two" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == [0, 1, 2, 3] and {event["rank"] for event in events} <= {0, 1}
    inspected = run_python("-m", "vdvae.inspect", tmp_path / "two")
    assert inspected.returncode == 0 and "high_grad" in inspected.stdout
    compared = run_python("-m", "vdvae.compare", tmp_path / "two")
    assert compared.returncode == 0 and "explin" in compared.stdout


@pytest.mark.parametrize("flags, words", [  # found before the ranks meet, and found by all of them together
    (["--hps", "cifar10", "--sigma_param", "explim"], ["explim", "explin"]),
    (["--hps", "cifar10", "--data_root", "nowhere"], ["nowhere", "run_scripts/setup_cifar10.sh"]),
])
def test_errors_are_one_message_and_exit_code_2(run_mpi, tmp_path, flags, words):
    result = run_mpi(2, "train.py", *flags, "--save_dir", tmp_path / "runs")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and result.stderr.count("error: ") == 1
    for word in words:
        assert word in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_of_weights_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(StartError, match="no file nowhere.th"):
        train(tmp_path, "--restore_path", "nowhere.th")
    assert not list(tmp_path.iterdir())
