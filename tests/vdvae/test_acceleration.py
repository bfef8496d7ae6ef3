"""What makes training faster or smaller computes the same, and says clearly where it cannot be had."""

import pytest
import torch

from vdvae.acceleration import described, memory_format, set_float32_precision, settled
from vdvae.distributed import World
from vdvae.ema import average_of
from vdvae.hparams_checks import HparamsError
from vdvae.locate import worst_part
from vdvae.optimizer import make_optimizer
from vdvae.preprocess import Batch
from vdvae.step_report import PendingReport
from vdvae.train_step import StepResult, TrainStep
from vdvae.vae import VAE

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
def test_precision_is_what_the_device_has_unless_told(small_hparams, monkeypatch, native):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native)
    assert settled(small_hparams(), CPU).precision == ("bf16" if native else "fp32")
    assert settled(small_hparams("--plain"), CPU).precision == "fp32"
    assert settled(small_hparams("--precision", "bf16"), CPU).precision == "bf16"


@pytest.mark.parametrize("flags, ranks, told", [
    (("--precision", "tf32"), 1, "precision is 'tf32'"), (("--cuda_graphs",), 1, "--cuda_graphs needs a GPU")])
def test_what_a_cpu_cannot_do_is_told(small_hparams, flags, ranks, told):
    with pytest.raises(HparamsError, match=told):
        settled(small_hparams(*flags), CPU, ranks)


def test_graphs_are_for_one_rank(small_hparams):
    hparams = small_hparams("--cuda_graphs", "--precision", "fp32")
    assert settled(hparams, CUDA).cuda_graphs
    with pytest.raises(HparamsError, match="one rank, there are 2"):
        settled(hparams, CUDA, 2)


@pytest.mark.parametrize("flags, told", [
    (("--plain", "--precision", "bf16"), "leave out --precision"), (("--plain", "--compile"), "leave out --compile"),
    (("--plain", "--compress_gradients"), "leave out --compress_gradients"), (("--precision", "fp16"), "precision is 'fp16'"),
    (("--n_batch", 8, "--accumulate_steps", 3), "accumulate_steps is 3, it must divide n_batch, which is 8"),
    (("--accumulate_steps", 0), "at least 1"), (("--cuda_graphs", "--checkpoint_blocks"), "leave one of the two out"),
    (("--cuda_graphs", "--optimizer", "apex"), "apex")])
def test_flags_that_contradict_each_other_are_refused(small_hparams, flags, told):
    with pytest.raises(HparamsError, match=told):
        small_hparams(*flags)


def test_float32_is_float32_unless_tf32_is_asked_for(small_hparams):
    for precision in ("tf32", "fp32"):
        set_float32_precision(small_hparams("--precision", precision))
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")


def test_the_log_line_names_what_is_on(small_hparams):
    assert described(small_hparams("--plain", "--precision", "fp32")) == "acceleration: plain, convolutions in fp32"
    several = small_hparams("--precision", "bf16", "--checkpoint_blocks", "--accumulate_steps", 4)
    assert described(several) == "acceleration: convolutions in bf16, channels last, checkpoint_blocks, batches in 4 parts"
    assert memory_format(several) == torch.channels_last


@pytest.mark.parametrize("flag", ["vanilla", "explin", "upbounded1"])
def test_bf16_touches_the_convolutions_alone(small_hparams, small_batch, flag):
    """bfloat16 rounds to 2^-9; the losses are means over thousands of terms whose roundings are independent."""
    steps = [make_step(small_hparams("--sigma_param", flag, "--precision", precision)) for precision in ("fp32", "bf16")]
    exact, rounded = updates(steps[0], small_batch), updates(steps[1], channels_last(small_batch))
    for one, other in zip(exact, rounded):
        assert not torch.equal(one.losses, other.losses)
        torch.testing.assert_close(other.losses, one.losses, rtol=2**-9, atol=0)
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


def test_blocks_computed_again_give_the_same_bits_and_keep_less(small_hparams, small_batch):
    kept, weights = [], []
    for flags in ((), ("--checkpoint_blocks",)):
        step = make_step(small_hparams("--sigma_param", "explin", *flags))
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


def test_an_event_is_put_down_to_the_part_of_the_batch_that_has_it(small_hparams, small_batch):
    small_batch.input[2, 0, 3, 3] = torch.nan
    step = make_step(small_hparams("--n_batch", 4, "--accumulate_steps", 4))
    result = step(*small_batch, 1e-3)
    assert PendingReport(result, 0, 0, 0.0).read().reasons == {"rate_nan": [0], "distortion_nan": [0]}
    assert worst_part(result.elbos) is result.elbos[2]
    finite = [elbo for elbo in result.elbos if elbo.negative_elbo.isfinite()]
    assert worst_part(finite).negative_elbo == max(elbo.negative_elbo for elbo in finite)
