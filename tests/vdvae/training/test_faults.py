"""Faults put into single updates, ranks and logs; benchmarks/faults/injected.py has the long table."""

import json

import pytest
import torch

from benchmarks.faults.injected_run import FAULTS
from tests.vdvae.disks import small_disk
from tests.vdvae.runs import assert_same, stopping, train
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.records import log as log_module
from vdvae.records.jsonl import append_whole
from vdvae.records.log import RunLogger
from vdvae.saving.checkpoint import save_checkpoint
from vdvae.saving.run_state import Position, save_state
from vdvae.step.locate import locate_loss, locate_nan_gradient
from vdvae.step.optimizer import make_optimizer
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep, average_of
from vdvae.training.endings import NotSaved, Stopped

EXPECTED = {"nan-input": ({"rate_nan", "distortion_nan"}, "encoder", None), "inf-input": ({"rate_nan", "distortion_nan"}, "encoder", None),
            "nan-activation": ({"rate_nan", "distortion_nan"}, "decoder", 2), "inf-activation": ({"rate_nan", "distortion_nan"}, "decoder", 2),
            "nan-gradient": ({"grad_nan"}, "decoder", 1), "inf-gradient": ({"grad_nan"}, "decoder", 1)}  # fmt: skip


@pytest.mark.parametrize("fault", EXPECTED)
def test_what_is_not_finite_is_skipped_counted_and_located(small_hparams, small_batch, fault):
    """A decoder block's bad output is found in the block that takes it in."""
    hparams = small_hparams()
    vae = VAE(hparams)
    step = TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, World())
    before = [parameter.detach().clone() for parameter in vae.parameters()]
    hooks = FAULTS[fault](step, small_batch[0])
    result = step(*small_batch, 1e-3)
    for hook in hooks:
        hook.remove()
    reasons, origin, block = EXPECTED[fault]
    assert set(PendingReport(result, 0, 0, 1e-3).read().reasons) == reasons
    names = [name for name, _ in vae.named_parameters()]
    found = locate_nan_gradient(result.elbos[0], names, result.grad_norms) if reasons == {"grad_nan"} else locate_loss(result.elbos[0])
    assert (found.origin, found.block) == (origin, block)
    assert all(torch.equal(old, now) for old, now in zip(before, vae.parameters()))


FLAGS = ["--hps", "photos32_overfit", "--width", 8, "--zdim", 2, "--num_mixtures", 1, "--dec_blocks", "1x1,32m1", "--enc_blocks",
         "32d32,1x1", "--num_iters", 4, "--device", "cpu", "--num_variables_visualize", 0, "--num_temperatures_visualize", 0]


@pytest.mark.parametrize("launcher, rank", [("run_mpi", 0), ("run_torchrun", 1)])
def test_the_first_error_of_a_rank_is_on_the_screen_and_ends_all(request, tmp_path, launcher, rank):
    start = request.getfixturevalue(launcher)
    done = start(2, "-m", "benchmarks.faults.injected_run", "exception", rank, 2, *FLAGS, "--save_dir", tmp_path, "--desc", "run")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error on rank")]
    assert errors, done.stderr
    assert done.returncode == 1 and errors[0] == f"error on rank {rank} of 2: MemoryError: no memory left"


def test_a_line_for_which_there_is_no_room_is_left_out_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    with small_disk():
        append_whole(path, b"x" * 899 + b"\n")
        with pytest.raises(OSError):
            append_whole(path, b"y" * 199 + b"\n")
        append_whole(path, b"z" * 49 + b"\n")
    assert path.read_bytes() == b"x" * 899 + b"\n" + b"z" * 49 + b"\n"


def test_lost_lines_are_counted_and_reported_once(tmp_path, capsys):
    log = RunLogger(tmp_path)
    with small_disk():
        for step in range(40):
            log.event(step=step, reason="high_grad")
    kept = [json.loads(line)["step"] for line in (tmp_path / "events.jsonl").open()]
    assert kept == list(range(len(kept))) and 5 < len(kept) < 40 and log.lost == 40 - len(kept)
    assert capsys.readouterr().err.count("a line of events.jsonl could not be written") == 1


def test_a_run_whose_log_lost_lines_trains_to_its_end_and_says_so(undisturbed, tmp_path, monkeypatch):
    whole, calls = append_whole, []

    def full(path, content):
        calls.append(path)
        if 3 <= len(calls) < 6:
            raise OSError(28, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(log_module, "append_whole", full)
    with pytest.raises(NotSaved, match="trained to step 12; 3 lines of the logs are lost") as end:
        train(tmp_path / "full")
    assert end.value.exit_code == 4 and (tmp_path / "full/run/finished.json").is_file()
    ours, theirs = (torch.load(folder / "latest-model.th", weights_only=True) for folder in (tmp_path / "full/run", undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_signal_on_a_full_disk_is_a_failed_save(undisturbed, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        stopping(patch, 3)
        patch.setattr("vdvae.training.outputs.save_state", full)
        with pytest.raises(NotSaved, match="stopped by a signal at step 5; not saved: .*No space left") as end:
            train(tmp_path)
    assert end.value.exit_code == 4
    assert_same(train(tmp_path, "--resume", "auto"), undisturbed)


def test_a_signal_after_lines_were_lost_is_a_saved_state(tmp_path, monkeypatch):
    stopping(monkeypatch, 3)
    whole = append_whole
    monkeypatch.setattr(log_module, "append_whole", lambda path, content: whole(path, content) if b"hparam" in content else full())

    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(Stopped, match="--resume continues the run; [0-9]+ lines of the logs are lost"):
        train(tmp_path)


def test_a_shortened_log_is_reported_and_goes_on_in_whole_lines(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stopping(patch, 4)
        with pytest.raises(Stopped):
            train(tmp_path / "short")
    log = tmp_path / "short/run/log.jsonl"
    content = log.read_bytes()
    log.write_bytes(content[:-9])
    train(tmp_path / "short", "--resume")
    assert f"log.jsonl has {len(content) - 9} bytes, it had {len(content)}" in capsys.readouterr().err
    after = log.read_bytes()
    assert after.startswith(content[:-9] + b"\n") and all(json.loads(line) for line in after[len(content) - 8 :].splitlines())



def test_a_checkpoint_for_which_there_is_no_room_leaves_the_older_one_and_no_half_a_file(small_hparams, tmp_path):
    """torch.save's own error on a full disk is no OSError."""
    hparams = small_hparams()
    vae = VAE(hparams)
    prefix = tmp_path / "latest"
    prefix.with_name("latest-model.th").write_bytes(b"older")
    with small_disk(), pytest.raises(OSError, match="latest-model.th.partial"):
        save_checkpoint(prefix, vae, vae, make_optimizer(hparams, vae.parameters()))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"latest-model.th": b"older"}
    with small_disk(), pytest.raises(OSError, match="tensors.pt"):
        save_state(tmp_path, Position(1, 0, 1, 1, {}, {}, {}, 0.0), {"model": vae.state_dict()})
    assert not (tmp_path / "state").exists()
