"""What makes training faster or smaller computes the same, and says clearly where it cannot be had."""

import os
from contextlib import contextmanager

import pytest
import torch

from vdvae.data.preprocess import Batch
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import StartError, World
from vdvae.settings.checks import HparamsError
from vdvae.settings.hparams import load_hparams
from vdvae.step.acceleration import allow_tf32, acceleration_line, choose_kernels, memory_format, for_device, tf32_in_training
from vdvae.step.locate import worst_part
from vdvae.step.optimizer import make_optimizer
from vdvae.step.step_result import PendingReport
from vdvae.step.step_result import StepResult
from vdvae.step.train_step import TrainStep, average_of
from vdvae.training.run import run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def make_step(hparams) -> TrainStep:
    torch.manual_seed(0)
    vae = VAE(hparams)
    return TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, World())


def channels_last(batch: Batch) -> Batch:
    return Batch(batch.input.contiguous(memory_format=torch.channels_last), batch.target)


def updates(step, batch: Batch, count: int = 3) -> list[StepResult]:
    torch.manual_seed(1)
    return [step(*batch, 1e-3) for _ in range(count)]


@pytest.mark.parametrize("native", [True, False])
def test_precision_is_what_the_device_has_unless_a_flag_says(small_hparams, monkeypatch, native):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native)
    assert for_device(small_hparams(), CPU).precision == ("bf16" if native else "fp32")
    assert for_device(small_hparams("--plain"), CPU).precision == "fp32"
    assert for_device(small_hparams("--precision", "bf16"), CPU).precision == "bf16"


@pytest.mark.parametrize("flags, ranks, words", [
    (("--precision", "tf32"), 1, "precision is 'tf32'"), (("--cuda_graphs",), 1, "--cuda_graphs needs a GPU"),
    (("--compress_gradients",), 1, "between ranks, there is one rank"),
    (("--compile",), 1, "no-such-compiler is not there")])
def test_what_a_cpu_cannot_do_is_refused(small_hparams, monkeypatch, flags, ranks, words):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(HparamsError, match=words):
        for_device(small_hparams(*flags), CPU, ranks)


def test_compiling_for_a_gpu_needs_triton(small_hparams, monkeypatch):
    monkeypatch.setattr("vdvae.step.acceleration.find_spec", lambda name: None)
    with pytest.raises(HparamsError, match="needs the package triton"):
        for_device(small_hparams("--compile", "--precision", "fp32"), CUDA)


@pytest.mark.parametrize("asked", [False, True])
def test_kernels_of_a_gpu_are_the_same_each_time_or_the_fastest(monkeypatch, asked):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", asked)
    try:
        choose_kernels(asked, CPU)
        assert torch.backends.cudnn.benchmark is asked and not torch.are_deterministic_algorithms_enabled()
        choose_kernels(asked, CUDA)
        assert torch.backends.cudnn.benchmark is not asked and torch.are_deterministic_algorithms_enabled() == asked
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("flags, words", [
    (("--plain", "--precision", "bf16"), "precision is bf16.*leave out --precision"),
    (("--plain", "--compile"), "leave out --compile"),
    (("--plain", "--compress_gradients"), "leave out --compress_gradients"), (("--precision", "fp16"), "precision is 'fp16'"),
    (("--n_batch", 8, "--accumulate_steps", 3), "accumulate_steps is 3, it must divide n_batch, which is 8"),
    (("--accumulate_steps", 0), "at least 1"), (("--cuda_graphs", "--checkpoint_blocks"), "leave one of the two out"),
    (("--cuda_graphs", "--optimizer", "apex"), "apex"), (("--cuda_graphs", "--compress_gradients"), "gradients in float32")])
def test_flags_that_contradict_each_other_are_refused(small_hparams, flags, words):
    with pytest.raises(HparamsError, match=words):
        small_hparams(*flags)


def tf32_is_allowed() -> bool:
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32
    return torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_tf32_is_for_the_passes_of_training_that_ask_for_it(small_hparams, small_batch, precision):
    step, seen = make_step(small_hparams("--precision", precision)), []
    step.model.register_forward_hook(lambda *_: seen.append(tf32_is_allowed()))
    step.model.encoder.enc_blocks[0].register_full_backward_hook(lambda *_: seen.append(tf32_is_allowed()))
    step.optimizer.register_step_pre_hook(lambda *_: seen.append(tf32_is_allowed()))
    step(*small_batch, 1e-3)
    assert seen == [precision == "tf32"] * 2 + [False]


def test_a_pass_that_fails_leaves_float32_behind():
    with pytest.raises(MemoryError), tf32_in_training("tf32"):
        raise MemoryError
    assert not tf32_is_allowed()


def test_a_run_begins_with_float32(tmp_path):
    allow_tf32(True)
    with pytest.raises(StartError):
        run(load_hparams(["--hps", "photos32", "--save_dir", str(tmp_path), "--resume"]), World())
    assert not tf32_is_allowed()


def test_the_log_line_names_what_is_on(small_hparams):
    assert acceleration_line(small_hparams("--plain", "--precision", "fp32")) == "acceleration: plain, convolutions in fp32"
    several = small_hparams("--precision", "bf16", "--checkpoint_blocks", "--accumulate_steps", 4)
    assert acceleration_line(several) == "acceleration: convolutions in bf16, channels last, checkpoint_blocks, batches in 4 parts"
    assert memory_format(several) == torch.channels_last


@pytest.mark.parametrize("flag", ["vanilla", "explin", "upbounded1"])
def test_bf16_touches_the_convolutions_alone(small_hparams, small_batch, flag):
    """bfloat16 rounds to 2^-9; the losses are means over thousands of terms whose roundings are independent. The rate is
    a hundred-thousandth of the loss, what the posteriors differ from the priors by, so it keeps fewer digits."""
    steps = [make_step(small_hparams("--sigma_param", flag, "--precision", precision)) for precision in ("fp32", "bf16")]
    exact, rounded = updates(steps[0], small_batch), updates(steps[1], channels_last(small_batch))
    for one, other in zip(exact, rounded):
        assert not torch.equal(one.losses, other.losses)
        assert one.losses.shape == (1, 3)  # elbo, distortion, rate
        torch.testing.assert_close(other.losses[0, :2], one.losses[0, :2], rtol=2**-9, atol=0)
        torch.testing.assert_close(other.losses[0, 2], one.losses[0, 2], rtol=2**-4, atol=0)
        torch.testing.assert_close(other.grad_norm, one.grad_norm, rtol=2**-6, atol=0)
    elbo = rounded[0].elbos[0]
    held = [elbo.distortion, elbo.kl_per_block, *(part for latent in elbo.latents for part in (latent.z, latent.kl))]
    held += [part for latent in elbo.latents for part in (latent.prior.loc, latent.posterior.scale.log_sigma)]
    assert {tensor.dtype for tensor in (*held, *steps[1].parameters)} == {torch.float32}
    # The noise does not depend on the layout: the draws differ by what the convolutions round, not by a draw of their own.
    torch.testing.assert_close(elbo.latents[0].z, exact[0].elbos[0].latents[0].z, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("flag", ["explin", "upbounded1", "bounded0.1_1"])
def test_the_kl_under_bf16_is_exact_for_the_normals_that_it_is_of(small_hparams, small_batch, flag):
    """Within 1e-5 of the block's KL in float64: 4 ULP and what half an ULP of each argument causes, log sigmas below 4."""
    step = make_step(small_hparams("--sigma_param", flag, "--precision", "bf16"))
    for latent in updates(step, channels_last(small_batch), 1)[0].elbos[0].latents:
        loc, log_sigma, prior_loc, prior_log_sigma = (
            part.double() for normal in (latent.posterior, latent.prior) for part in (normal.loc, normal.scale.log_sigma))
        variance, prior_variance = torch.exp(2 * log_sigma), torch.exp(2 * prior_log_sigma)
        kl = prior_log_sigma - log_sigma + (variance + (loc - prior_loc) ** 2) / (2 * prior_variance) - 0.5
        torch.testing.assert_close(latent.kl.double().sum(), kl.sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_computed_again_give_the_same_bits_and_keep_less(small_hparams, small_batch, precision):
    kept, weights = [], []
    for flags in ((), ("--checkpoint_blocks",)):
        step = make_step(small_hparams("--sigma_param", "explin", "--precision", precision, *flags))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda tensor: tensor):
            torch.manual_seed(1)
            step(*small_batch, 1e-3)
        kept.append(sum(sizes))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in step.parameters]))
    assert torch.equal(*weights)
    assert kept[1] < kept[0] / 2


def test_a_batch_in_parts_gives_the_same_update(small_hparams, small_batch, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    whole, parts = (make_step(small_hparams("--n_batch", 4, "--accumulate_steps", count)) for count in (1, 4))
    for one, other in zip(updates(whole, small_batch), updates(parts, small_batch)):
        torch.testing.assert_close(other.losses, one.losses)
        torch.testing.assert_close(other.grad_norm, one.grad_norm)
        assert [len(elbo.distortion) for elbo in other.elbos] == [1] * 4
        torch.testing.assert_close(torch.cat([elbo.rate for elbo in other.elbos]), one.elbos[0].rate)


class Shared(torch.nn.Module):
    """A VAE that says of each pass whether no_sync held, that of DistributedDataParallel."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.vae, self.hushed, self.passes = vae, False, []

    @contextmanager
    def no_sync(self):
        self.hushed = True
        yield
        self.hushed = False

    def forward(self, *batch):
        elbo = self.vae(*batch)
        self.passes.append(("forward", self.hushed))
        elbo.negative_elbo.register_hook(lambda _: self.passes.append(("backward", self.hushed)))
        return elbo


class TwoRanks(World):
    def gather(self, values: torch.Tensor) -> torch.Tensor:
        return torch.stack([values] * 2)


def test_ranks_share_gradients_in_the_last_part_of_a_batch_alone(small_hparams, small_batch):
    step = make_step(small_hparams("--n_batch", 4, "--accumulate_steps", 4))
    step.model, step.world = Shared(step.model), TwoRanks(size=2)
    step(*small_batch, 1e-3)
    assert step.model.passes == [("forward", True), ("backward", True)] * 3 + [("forward", False), ("backward", False)]


def test_an_event_is_put_down_to_the_part_of_the_batch_that_has_it(small_hparams, small_batch):
    small_batch.input[2, 0, 3, 3] = torch.nan
    step = make_step(small_hparams("--n_batch", 4, "--accumulate_steps", 4))
    result = step(*small_batch, 1e-3)
    assert PendingReport(result, 0, 0, 0.0).read().reasons == {"rate_nan": [0], "distortion_nan": [0]}
    assert worst_part(result.elbos) is result.elbos[2]
    finite = [elbo for elbo in result.elbos if elbo.negative_elbo.isfinite()]
    assert worst_part(finite).negative_elbo == max(elbo.negative_elbo for elbo in finite)
