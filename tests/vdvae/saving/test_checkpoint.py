"""The four files: written whole, exchanged with the original, refused when damaged."""

import json
import pickle

import pytest
import torch

from vdvae.model.vae import VAE
from vdvae.saving.checkpoint import CheckpointError, restore_log, restore_optimizer, restore_weights, save_checkpoint
from vdvae.step.optimizer import make_optimizer


@pytest.fixture()
def saved(small_hparams, tmp_path):
    """A run folder with a checkpoint of a small model after one backward pass, and the model."""
    vae, average = VAE(small_hparams()), VAE(small_hparams())
    (tmp_path / "log.jsonl").write_text('{"type": "hparam", "key": "seed", "value": 0}\n')
    save_checkpoint(tmp_path / "latest", vae, average, make_optimizer(small_hparams(), vae.parameters()))
    return tmp_path, vae, average


def test_the_four_files_hold_weights_average_optimizer_and_log(saved, small_hparams):
    folder, vae, average = saved
    names = {"latest-model.th", "latest-model-ema.th", "latest-opt.th", "latest-log.jsonl", "log.jsonl"}
    assert {path.name for path in folder.iterdir()} == names  # and no half-written ones
    for model, name in ((vae, "model"), (average, "model-ema")):
        other = VAE(small_hparams())
        restore_weights(other, str(folder / f"latest-{name}.th"))
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))
    assert (folder / "latest-log.jsonl").read_text() == (folder / "log.jsonl").read_text()


@pytest.mark.parametrize("rename", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "by block",
                                    "fork"])
def test_weights_saved_under_ddp_compiled_or_by_a_patched_fork_load(saved, small_hparams, rename):
    folder, vae, _ = saved
    weights = {rename.format(name): value for name, value in vae.state_dict().items()}
    if rename == "by block":
        weights = {name.replace("dec_blocks.0.", "dec_blocks.0._orig_mod."): value for name, value in vae.state_dict().items()}
    if rename == "fork":  # patched, it writes down its scales
        weights = {**vae.state_dict(), "decoder.dec_blocks.0.scales.names": torch.zeros(3)}
    assert weights.keys() != vae.state_dict().keys()
    torch.save(weights, folder / "wrapped.th")
    other = VAE(small_hparams())
    restore_weights(other, str(folder / "wrapped.th"))
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), other.parameters()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_named_at_load(saved, small_hparams, value):
    folder, vae, _ = saved
    weights = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    weights["decoder.out_net.out_conv.bias"][1] = value
    torch.save(weights, folder / "bad.th")
    with pytest.raises(CheckpointError, match="bad.th: decoder.out_net.out_conv.bias is not finite$"):
        restore_weights(VAE(small_hparams()), str(folder / "bad.th"))
    moments = {i: {"step": 3, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.full_like(p, value)} for i, p in enumerate(vae.parameters())}
    torch.save({"state": moments, "param_groups": [{"step": 3}]}, folder / "bad.th")
    with pytest.raises(CheckpointError, match="bad.th: state.0.exp_avg_sq is not finite; state.1.exp_avg_sq .*; and [0-9]+ more$"):
        restore_optimizer(make_optimizer(small_hparams(), vae.parameters()), str(folder / "bad.th"))


def test_a_failing_write_leaves_the_older_file(saved, small_hparams, monkeypatch):
    folder, vae, average = saved
    before = (folder / "latest-model.th").read_bytes()

    def fill_the_disk(state, path):
        with open(path, "wb") as file:
            file.write(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder / "latest", vae, average, make_optimizer(small_hparams(), vae.parameters()))
    assert (folder / "latest-model.th").read_bytes() == before


def test_missing_file(small_hparams):
    with pytest.raises(FileNotFoundError, match="nowhere.th"):
        restore_weights(VAE(small_hparams()), "nowhere.th")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"not a checkpoint",
                                    lambda data: data[:500] + bytes([data[500] ^ 255]) + data[501:1000]])
def test_damaged_files_are_named(saved, small_hparams, damage):
    folder, vae, _ = saved
    for name, restore in (("latest-model.th", lambda path: restore_weights(vae, path)),
                          ("latest-opt.th", lambda path: restore_optimizer(make_optimizer(small_hparams(), vae.parameters()), path))):
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(CheckpointError, match=f"{name}.*damaged"):
            restore(str(path))


class Code:
    """Pickles to a call that makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.folder),)


def test_a_pickle_with_code_is_refused_and_nothing_runs(small_hparams, tmp_path):
    torch.save({"encoder": Code(tmp_path / "ran")}, tmp_path / "evil.th")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Code(tmp_path / "ran"), protocol=2))
    for name in ("evil.th", "evil.pkl"):
        with pytest.raises(CheckpointError, match=name):
            restore_weights(VAE(small_hparams()), str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_model_say_how_they_differ(saved, small_hparams):
    folder, _, _ = saved
    with pytest.raises(CheckpointError, match=r"another model: .*must be \[8, 3, 3, 3\]|another model: .*is \[16"):
        restore_weights(VAE(small_hparams("--width", 8)), str(folder / "latest-model.th"))
    with pytest.raises(CheckpointError, match="dec_blocks.5.* is missing"):
        restore_weights(VAE(small_hparams("--dec_blocks", "1x1,4m1,4x1,8m4,8x2")), str(folder / "latest-model.th"))
    with pytest.raises(CheckpointError, match="latest-opt.th: not a file of weights"):
        restore_weights(VAE(small_hparams()), str(folder / "latest-opt.th"))
    with pytest.raises(CheckpointError, match="latest-model.th"):
        restore_optimizer(make_optimizer(small_hparams(), VAE(small_hparams()).parameters()), str(folder / "latest-model.th"))


def test_a_log_gives_position_and_counters(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"type": "hparam", "key": "seed", "value": 1},
             {"type": "train_loss", "step": 7, "epoch": 1, "total_skipped_updates": 3, "total_high_grads": 2},
             {"message": "hello"}, {"type": "eval_loss", "step": 8, "epoch": 1, "elbo": 2.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    iteration, epoch, counters = restore_log(str(path))
    assert (iteration, epoch, counters.skipped_updates, counters.high_grads, counters.rate_nans) == (8, 1, 3, 2, 0)


def test_the_originals_log_gives_its_position(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"type": "train_loss", "step": 9000, "epoch": 3, "skipped_updates": 4.0}, {"type": "train_loss", "step": 10000, "epoch": 4}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert restore_log(str(path))[:2] == (10000, 4)
    path.write_text('{"type": "train_loss", "step": 1, "epo\n')
    with pytest.raises(CheckpointError, match="line 1: not JSON"):
        restore_log(str(path))
    path.write_text('{"message": "hello"}\n')
    with pytest.raises(CheckpointError, match="no train_loss line"):
        restore_log(str(path))
