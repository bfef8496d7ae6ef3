"""The same training on a GPU: run with `python -m pytest tests -m cuda`."""

import pytest
import torch

from vdvae.distributed import World
from vdvae.ema import average_of
from vdvae.optimizer import make_optimizer
from vdvae.step_report import PendingReport
from vdvae.train_step import TrainStep
from vdvae.vae import VAE

pytestmark = pytest.mark.cuda
GPU = World(device=torch.device("cuda", 0))


def make_step(hparams, world: World) -> TrainStep:
    torch.manual_seed(0)
    vae = VAE(hparams).to(world.device)
    return TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, world)


def on(batch, world: World):
    return type(batch)(*(tensor.to(world.device) for tensor in batch))


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch):
    """Convolutions without TF32, whose ten bits of mantissa would hide everything else."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


@pytest.mark.parametrize("flag", ["vanilla", "explin", "upbounded1", "bounded0.1_1"])
def test_three_updates_agree_with_the_cpu(small_hparams, small_batch, flag):
    """Losses to 1e-4: three updates multiply float32's rounding of sums in another order."""
    losses = []
    for world in (World(), GPU):
        step = make_step(small_hparams("--sigma_param", flag), world)
        results = [step(*on(small_batch, world), 1e-3) for _ in range(3)]
        losses.append(torch.stack([result.losses[0].cpu() for result in results]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threshold", [400.0, 1e-6])
def test_no_host_synchronisation_in_a_step(small_hparams, small_batch, threshold):
    step = make_step(small_hparams("--skip_threshold", threshold), GPU)
    batch = on(small_batch, GPU)
    step(*batch, 1e-3)  # the first step allocates the optimizer's state
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = PendingReport(step(*batch, 1e-3), 1, 0, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pending.read().skipped == (threshold == 1e-6)


def test_a_skipped_update_changes_nothing(small_hparams, small_batch):
    step = make_step(small_hparams("--skip_threshold", 1e-6), GPU)
    before = [parameter.detach().clone() for parameter in step.parameters]
    assert PendingReport(step(*on(small_batch, GPU), 1e-3), 0, 0, 1e-3).read().reasons == {"high_grad": [0]}
    assert all(torch.equal(old, new) for old, new in zip(before, step.parameters))
