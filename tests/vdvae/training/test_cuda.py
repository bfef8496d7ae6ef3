"""The same training on a GPU: run with `python -m pytest tests -m cuda`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from vdvae.data.images import ArrayImages
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import noise_state, own_noise, seed_noise
from vdvae.step.acceleration import compile_parts
from vdvae.step.graphed_step import CudaGraphs, GraphedStep
from vdvae.step.optimizer import make_optimizer
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep, average_of
from vdvae.training.loader import TrainLoader

pytestmark = pytest.mark.cuda
GPU = World(device=torch.device("cuda", 0))
RANDN_LIKE = torch.randn_like
# Relative errors of ELBO, distortion and rate that a bf16 update may have: at least twice the largest of these three updates on
# a CPU over 20 seeds, 4.5e-6, 4.6e-6 and 0.0068. A convolution's output has a relative error of about 2^-9. The rate errs most:
# it sums squares of small differences between such outputs.
BF16_ERRORS = 2**-16, 2**-16, 2**-6


def make_step(hparams, world: World) -> TrainStep:
    torch.manual_seed(0)
    vae = VAE(hparams).to(world.device)
    average = average_of(vae)
    if hparams.compile:
        compile_parts(vae)
    return TrainStep(vae, average, make_optimizer(hparams, vae.parameters()), hparams, world)


def on(batch, world: World):
    return type(batch)(*(tensor.to(world.device) for tensor in batch))


@pytest.fixture(autouse=True)
def comparable_convolutions(monkeypatch):
    """No TF32, whose ten bits of mantissa would hide everything else; the same kernels and sums in every run."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    # Not torch.zeros_like itself, under two names of which torch.compile stumbles.
    monkeypatch.setattr(torch, "randn_like", lambda tensor, **options: torch.zeros_like(tensor, **options))


@pytest.mark.parametrize("flag", ["vanilla", "explin", "upbounded1", "bounded0.1_1"])
def test_three_updates_agree_with_the_cpu(small_hparams, small_batch, flag):
    """Losses to 1e-4: three updates multiply float32's rounding of sums in another order."""
    losses = []
    for world in (World(), GPU):
        step = make_step(small_hparams("--sigma_param", flag), world)
        results = [step(*on(small_batch, world), 1e-3) for _ in range(3)]
        losses.append(torch.stack([result.losses[0].cpu() for result in results]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("flags", [(), ("--precision", "bf16"), ("--checkpoint_blocks",),
                                   ("--n_batch", 4, "--accumulate_steps", 2)])
@pytest.mark.parametrize("threshold", [400.0, 1e-6])
def test_no_host_synchronisation_in_a_step(small_hparams, small_batch, threshold, flags):
    step = make_step(small_hparams("--skip_threshold", threshold, *flags), GPU)
    batch = on(small_batch, GPU)
    step(*batch, 1e-3)  # the first step allocates the optimizer's state
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = PendingReport(step(*batch, 1e-3), 1, 0, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pending.read().skipped == (threshold == 1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_that_stay_on_the_gpu_are_those_of_the_loader(small_hparams, monkeypatch, dtype):
    levels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (23, 8, 8, 3), dtype)
    images = ArrayImages(levels, np.arange(2, 23))
    hparams = small_hparams("--n_batch", 4)
    resident = list(TrainLoader(images, hparams, GPU).epoch(1))
    monkeypatch.setattr("vdvae.training.loader.RESIDENT_BYTES", 0)
    loaded = list(TrainLoader(images, hparams, GPU).epoch(1))
    assert all(batch.device.type == "cuda" for batch in resident)
    for batch, other in zip(resident, loaded, strict=True):
        assert batch.dtype == other.dtype and torch.equal(batch.cpu(), other)


@pytest.mark.parametrize("flags", [("--precision", "bf16"), ("--precision", "bf16", "--compile")], ids=" ".join)
def test_bf16_and_compiled_updates_are_near_float32(small_hparams, small_batch, flags):
    exact, faster = make_step(small_hparams("--sigma_param", "explin"), GPU), make_step(small_hparams("--sigma_param", "explin", *flags), GPU)
    for _ in range(3):
        losses = [step(*on(small_batch, GPU), 1e-3).losses for step in (exact, faster)]
        error = (losses[1] / losses[0] - 1).abs()[0]
        assert (error < torch.tensor(BF16_ERRORS, device=GPU.device)).all(), error


@pytest.fixture()
def group_of_one():
    dist.init_process_group("nccl", store=dist.TCPStore("127.0.0.1", 0, 1, is_master=True), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("flags", [(), ("--precision", "bf16", "--compile")], ids=["float32", "all on"])
def test_recorded_updates_are_the_updates(small_hparams, small_batch, flags, ranks, group_of_one):
    """Both run the same kernels, so bf16 needs no tolerance of its own. A second rank, which does not exist, adds zeros."""
    world = replace(GPU, size=ranks)
    hparams = small_hparams("--sigma_param", "explin", "--cuda_graphs", *flags)
    plain, inner = make_step(hparams, world), make_step(hparams, world)
    recorded = GraphedStep(inner, CudaGraphs())
    batch = on(small_batch, GPU)
    for update in range(8):
        threshold = [float("nan"), 0.0][update != 6]  # the seventh is skipped, in the recording too
        spoilt = [batch.input + threshold, batch.target]
        one, other = plain(*spoilt, 1e-3 * update), recorded(*spoilt, 1e-3 * update)
        torch.testing.assert_close(other.losses, one.losses, rtol=1e-5, atol=0, equal_nan=True)
        assert other.skip == one.skip == (update == 6)
    torch.testing.assert_close(list(inner.parameters), list(plain.parameters), rtol=1e-5, atol=1e-5)


def test_recorded_updates_draw_the_noise_of_the_updates(small_hparams, small_batch, monkeypatch):
    """With an evaluation's own noise in between, as a run has it; what a checkpoint keeps of the noise agrees too."""
    monkeypatch.setattr(torch, "randn_like", RANDN_LIKE)
    draws, states = [], []
    for recorded in (False, True):
        step = make_step(small_hparams("--sigma_param", "explin", "--cuda_graphs"), GPU)
        call = GraphedStep(step, CudaGraphs()) if recorded else step
        seed_noise(0, GPU)
        draws.append([])
        for _ in range(8):
            draws[-1].append(call(*on(small_batch, GPU), 1e-3).elbos[0].latents[0].z.clone())  # the next but one overwrites it
            with own_noise(5, GPU):
                torch.randn(3, device=GPU.device)
        states.append(noise_state(GPU)[1])
    torch.testing.assert_close(torch.stack(draws[1]), torch.stack(draws[0]), rtol=1e-4, atol=1e-4)
    assert torch.equal(*states)


def test_a_skipped_update_changes_nothing(small_hparams, small_batch):
    step = make_step(small_hparams("--skip_threshold", 1e-6), GPU)
    before = [parameter.detach().clone() for parameter in step.parameters]
    assert PendingReport(step(*on(small_batch, GPU), 1e-3), 0, 0, 1e-3).read().reasons == {"high_grad": [0]}
    assert all(torch.equal(old, new) for old, new in zip(before, step.parameters))
