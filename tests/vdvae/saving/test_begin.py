"""Runs that stop, crash or cannot be saved, and resume with the bits of the undisturbed one."""

import errno
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vdvae
from tests.vdvae.runs import FLAGS, assert_same, crashing, lines, stopping, tensors, train
from vdvae.ranks.distributed import StartError
from vdvae.records.run_log import read_run
from vdvae.saving.run_state import saved_states
from vdvae.settings.hparams import HparamsError
from vdvae.step.train_step import TrainStep
from vdvae.training import outputs as outputs_module
from vdvae.training.endings import NotSaved, SkipStreak, Stopped, Stuck

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("after, step", [(0, 2), (3, 5), (4, 5), (7, 9),  # heard a step late, but at a save at once
                                         (11, 12), (12, 12), (13, 12)])  # in the last update, in its save, in the evaluation
def test_a_stopped_run_goes_on_to_the_bit(undisturbed, tmp_path, monkeypatch, after, step):
    with monkeypatch.context() as patch:
        stopping(patch, after)
        with pytest.raises(Stopped, match=f"at step {step}: --resume continues the run"):
            train(tmp_path)
    assert vdvae.load(tmp_path / "run").hparams.lr == 0.03  # stopped before its first save, it can be drawn from
    assert not (tmp_path / "run/finished.json").exists()
    assert_same(train(tmp_path, "--resume"), undisturbed)
    assert after > 12 or not list(tmp_path.glob("run/abandoned-*"))


def test_a_run_that_began_from_given_files_goes_on_to_the_bit(undisturbed, tmp_path, monkeypatch):
    given = [f"--restore_{name}={undisturbed}/latest-{file}" for name, file in
             (("path", "model.th"), ("ema_path", "model-ema.th"), ("optimizer_path", "opt.th"), ("log_path", "log.jsonl"))]
    whole = train(tmp_path / "whole", *given, "--num_iters", 24)
    stopping(monkeypatch, 1)
    with pytest.raises(Stopped, match="at step 15"):
        train(tmp_path / "parts", *given, "--num_iters", 24)
    monkeypatch.undo()
    assert_same(train(tmp_path / "parts", "--num_iters", 24, "--resume"), whole)


def test_a_run_whose_images_are_too_many_to_reside_goes_on_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("vdvae.training.loader.RESIDENT_BYTES", 0)
    monkeypatch.setattr("vdvae.data.sets.npy_files.IMAGENET_VALID", 4)
    generator = np.random.default_rng(0)
    for part in ("train", "valid"):
        np.save(tmp_path / f"imagenet32-{part}.npy", generator.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8))
    flags = ["--dataset", "imagenet32", "--data_root", tmp_path, "--skip_threshold", 1.3]
    whole = train(tmp_path / "whole", *flags)
    for first, then in ((0, 0), (0, 1)):  # loader processes read the same batches and draw no noise
        folder = tmp_path / f"parts{then}"
        with monkeypatch.context() as patch:
            stopping(patch, 3)
            with pytest.raises(Stopped, match="at step 5"):
                train(folder, *flags, "--num_workers", first)
        assert_same(train(folder, *flags, "--num_workers", then, "--resume"), whole)


@pytest.mark.parametrize("flags", [("--likelihood", "normal", "--skip_threshold", 0.75),
                                   ("--likelihood", "bernoulli", "--skip_threshold", 0.2)])
def test_a_run_with_noise_in_its_pixels_goes_on_to_the_bit(tmp_path, monkeypatch, flags):
    whole = train(tmp_path / "whole", *flags)
    with monkeypatch.context() as patch:
        stopping(patch, 3)
        with pytest.raises(Stopped, match="at step 5"):
            train(tmp_path / "parts", *flags)
    assert_same(train(tmp_path / "parts", *flags, "--resume"), whole)


def test_a_run_stopped_again_and_again_goes_on_to_the_bit(undisturbed, tmp_path, monkeypatch):
    stopping(monkeypatch, 1)
    for _ in range(3):
        with pytest.raises(Stopped):
            train(tmp_path, "--resume", "auto")
        stopping(monkeypatch, 1)
    monkeypatch.undo()
    assert_same(train(tmp_path, "--resume", "auto"), undisturbed)


@pytest.mark.parametrize("after, kept", [(9, 5), (3, 0)])
def test_a_crashed_run_goes_on_to_the_bit_with_its_logs_cut_back(undisturbed, tmp_path, monkeypatch, after, kept):
    with monkeypatch.context() as patch:
        crashing(patch, after)
        with pytest.raises(MemoryError):
            train(tmp_path)
    assert_same(train(tmp_path, "--resume", "auto"), undisturbed)
    assert all(line["step"] >= kept for line in lines(tmp_path / "run", "abandoned-log.jsonl"))


def test_a_damaged_newest_state_is_reported_and_the_one_before_is_used(undisturbed, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        crashing(patch, 11)
        with pytest.raises(MemoryError):
            train(tmp_path)
    newest, older = saved_states(tmp_path / "run")
    data = bytearray((newest / "tensors.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "tensors.pt").write_bytes(data)
    assert_same(train(tmp_path, "--resume"), undisturbed)
    said = capsys.readouterr().out
    assert "step-0000000010/tensors.pt is damaged" in said and "resumed at step 5" in said
    for folder in saved_states(tmp_path / "run"):
        (folder / "manifest.json").write_text("{")
    with pytest.raises(StartError, match="no checkpoint is whole"):
        train(tmp_path, "--resume")


def test_what_cannot_be_resumed_is_refused_before_anything_is_touched(undisturbed, tmp_path):
    before = {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}
    with pytest.raises(StartError, match="holds no checkpoint"):
        train(tmp_path, "--resume")
    assert not list(tmp_path.iterdir())
    for flags, words in ((["--lr", "0.5"], "lr was 0.03, is 0.5: .* change the run with --change lr=0.5"),
                         (["--sigma_param", "exp"], "sigma_param was 'explin', is 'exp': .* begin a new run .*--restore_path")):
        with pytest.raises(StartError, match=words):
            train(undisturbed.parent, "--resume", *flags)
    with pytest.raises(HparamsError, match="resume is 'maybe'"):
        train(tmp_path, "--resume", "maybe")
    with pytest.raises(HparamsError, match="leave out --restore_path"):
        train(tmp_path, "--resume", "--restore_path", "x")
    assert {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("flags", [[], ["--num_iters", 6], ["--num_epochs", 2], ["--change", "lr=0.1"]])
def test_a_finished_run_says_so_and_writes_nothing(undisturbed, flags, capsys):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in undisturbed.rglob("*") if path.is_file()}
    train(undisturbed.parent, "--resume", *flags)
    assert "run is finished, after 12 updates" in capsys.readouterr().out
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in undisturbed.rglob("*") if path.is_file()} == before


def test_a_run_that_ends_with_its_epochs_evaluates_once_at_the_end_and_is_finished(tmp_path, capsys):
    flags = ["--num_iters", 100, "--num_epochs", 3, "--epochs_per_eval", 2]
    folder = train(tmp_path, *flags)
    scored = [line["step"] for line in lines(folder, "log.jsonl") if line["type"] == "eval_loss"]
    assert scored == [2, 6] and (folder / "latest-log.jsonl").read_text() == (folder / "log.jsonl").read_text()
    train(tmp_path, *flags, "--resume")
    assert "run is finished, after 6 updates" in capsys.readouterr().out
    train(tmp_path, *flags, "--resume", "--num_iters", 3, "--test_at_end")  # scores that it has not made
    assert [line["type"] for line in lines(folder, "log.jsonl")][-2:] == ["eval_loss", "test_loss"]


def test_a_finished_run_goes_on_with_more_updates(tmp_path, undisturbed, monkeypatch):
    short = train(tmp_path, "--num_iters", 7)
    assert json.loads((short / "finished.json").read_text()) == {"iteration": 7, "epoch": 3}
    with monkeypatch.context() as patch:
        crashing(patch, 1)
        with pytest.raises(MemoryError):
            train(tmp_path, "--resume")
    scores = [line["step"] for line in lines(short, "log.jsonl") if line["type"] == "eval_loss"]
    assert scores[-1] == 7 and not (short / "finished.json").exists()  # what it logged at its end stays
    longer = train(tmp_path, "--resume")
    ours, theirs = tensors(longer), tensors(undisturbed)
    assert all(torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(theirs[name])) for name in theirs)
    assert len(saved_states(longer)) == 2


def test_changed_settings_hold_from_then_on_and_are_logged(tmp_path, monkeypatch):
    stopping(monkeypatch, 7)
    with pytest.raises(Stopped, match="at step 9"):
        train(tmp_path)
    folder = tmp_path / "run"
    stopping(monkeypatch, 0)
    with pytest.raises(Stopped, match="at step 10"):
        train(tmp_path, "--resume", "--change", "lr=0.002,wd=0.5")
    monkeypatch.undo()
    with pytest.raises(StartError, match="lr was 0.002, is 0.03"):  # the old command line
        train(tmp_path, "--resume")
    train(tmp_path, "--resume", "--change", "lr=0.002,wd=0.5")
    rates = {line["step"]: line["lr"] for line in lines(folder, "log.jsonl") if line.get("type") == "train_loss"}
    assert rates[8] == pytest.approx(0.024) and rates[11] == 0.002
    log = (folder / "log.txt").read_text()
    assert log.count("changed at step 9: lr was 0.03, is 0.002") == log.count("wd was 0.0, is 0.5") == 1
    assert log.count("changed at") == 2  # the third start gave the run its own values
    group = torch.load(folder / "latest-opt.th", weights_only=True)["param_groups"][0]
    assert (group["lr"], group["weight_decay"]) == (0.002, 0.5)
    assert (read_run(folder).hparams["lr"], read_run(folder).hparams["wd"]) == (0.002, 0.5)


def test_a_run_that_skips_for_ever_is_stopped_and_says_why(tmp_path):
    with pytest.raises(Stuck) as end:
        train(tmp_path, "--skip_threshold", "1e-9", "--max_consecutive_skips", 4)
    assert "the last 5 updates were all skipped. Events: high_grad 5" in str(end.value)
    assert "not below --skip_threshold 1e-09: try a --lr below 0.03" in str(end.value)
    assert (tmp_path / "run/stuck-model.th").is_file() and end.value.exit_code == 3
    assert read_run(tmp_path / "run").counts["skipped_updates"] == 5


@pytest.mark.parametrize("flags, words", [(["--sigma_param", "exp"], "not finite with exp: try --stable, or a --lr below"),
                                          (["--stable"], "not finite with explin/prior_const1: try a --lr below")])
def test_a_run_that_is_stuck_in_nans_recommends_stable_scales(small_hparams, flags, words):
    streak = SkipStreak()
    streak.add("rate_nan", math.nan, {"origin": "decoder", "block": 3})
    assert words in streak.message(100, small_hparams(*flags))


def test_a_streak_of_skips_is_counted_over_an_interruption(tmp_path, monkeypatch):
    flags = ["--skip_threshold", "1e-9", "--max_consecutive_skips", 6]
    with monkeypatch.context() as patch:
        stopping(patch, 1)
        with pytest.raises(Stopped, match="at step 3"):
            train(tmp_path, *flags)
    with pytest.raises(Stuck, match="the last 7 updates"):
        train(tmp_path, *flags, "--resume")
    assert read_run(tmp_path / "run").counts["skipped_updates"] == 7


def test_an_applied_update_ends_a_streak_of_skips(tmp_path, monkeypatch):
    calls = []

    def every_other(self, losses, grad_norm) -> torch.Tensor:
        calls.append(1)
        return torch.tensor(len(calls) % 2 == 0)

    monkeypatch.setattr(TrainStep, "_must_skip", every_other)
    assert read_run(train(tmp_path, "--max_consecutive_skips", 2)).counts["skipped_updates"] == 6


def test_a_full_disk_is_reported_and_training_goes_on(undisturbed, tmp_path, monkeypatch, capsys):
    original, saves = outputs_module.save_state, []

    def full(folder, position, *rest):
        saves.append(position.iteration)
        if position.iteration == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(folder, position, *rest)

    monkeypatch.setattr(outputs_module, "save_state", full)
    assert_same(train(tmp_path), undisturbed)
    assert saves == [5, 10, 12] and "at step 10 could not be written" in capsys.readouterr().err
    assert [int(folder.name[-2:]) for folder in saved_states(tmp_path / "run")] == [12, 5]


def test_a_last_save_that_fails_is_the_runs_exit(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs_module, "save_state", full)
    with pytest.raises(NotSaved, match="trained to step 12; not saved: .*No space left"):
        train(tmp_path)
    assert not (tmp_path / "run/finished.json").exists()


def test_three_ranks_go_on_to_the_bit(run_mpi, tmp_path):
    """From the state at step 5, as after a crash before the last one was saved. With three ranks sums depend on their order."""
    flags = [*FLAGS, "--n_batch", 2, "--skip_threshold", 1.2, "--device", "cpu", "--num_iters", 8, "--desc", "run"]
    whole = run_mpi(3, ROOT / "train.py", *flags, "--save_dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(saved_states(tmp_path / "parts/run")[0])
    resumed = run_mpi(3, ROOT / "train.py", *flags, "--save_dir", tmp_path / "parts", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step 5" in resumed.stdout
    assert_same(tmp_path / "parts/run", tmp_path / "whole/run")
    with pytest.raises(StartError, match="there were 3, now 1"):
        train(tmp_path / "parts", "--n_batch", 2, "--skip_threshold", 1.2, "--device", "cpu", "--num_iters", 8, "--resume")
