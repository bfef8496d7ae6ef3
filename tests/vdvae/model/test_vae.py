"""How a model begins: zero biases, zero priors, and residual branches scaled down with the depth."""

import math

import pytest
import torch

from vdvae.model.vae import VAE


def uniform_bound(weight: torch.Tensor) -> float:
    """PyTorch's default for a convolution: uniform in ±1/sqrt(fan in)."""
    return 1 / math.sqrt(weight[0].numel())


def test_initial_weights(small_hparams):
    hparams = small_hparams("--width", 64, "--zdim", 16)
    state = VAE(hparams).state_dict()
    enc_depth, dec_depth = 4, 5
    for name, value in state.items():
        if name.endswith("prior.c4.weight") or name.endswith(".bias") or "bias" in name:
            assert not value.any(), name
        elif value.ndim == 4 and name != "decoder.gain":
            scale = 1.0
            if "enc_blocks" in name and name.endswith("c4.weight"):
                scale = enc_depth**-0.5
            if name.endswith("z_proj.weight") or name.endswith("resnet.c4.weight"):
                scale = dec_depth**-0.5
            # of n >= 256 uniform draws the largest is above 0.95 of the bound, except in one case of 500,000
            assert 0.95 * scale < value.abs().max() / uniform_bound(value) <= scale, name
    assert torch.equal(state["decoder.gain"], torch.ones(1, 64, 1, 1))


def test_elbo_is_made_of_its_parts(small_hparams, small_batch):
    vae = VAE(small_hparams("--sigma_param", "explin"))
    elbo = vae(*small_batch)
    dimensions = 8 * 8 * 3
    torch.testing.assert_close(elbo.rate, elbo.kl_per_block.sum(dim=0) / dimensions)
    torch.testing.assert_close(elbo.negative_elbo, (elbo.distortion + elbo.rate).mean())
    assert elbo.distortion.shape == elbo.rate.shape == (4,) and elbo.kl_per_block.shape == (5, 4)
    assert [latent.z.shape[2] for latent in elbo.latents] == [1, 4, 4, 8, 8]


def test_inputs_are_not_changed(small_hparams, small_batch):
    copies = [tensor.clone() for tensor in small_batch]
    vae = VAE(small_hparams())
    vae(*small_batch).negative_elbo.backward()
    vae.encode(small_batch.input)
    assert all(torch.equal(now, copy) for now, copy in zip(small_batch, copies))
    assert not any(bias.any() for bias in vae.decoder.bias_xs)


@pytest.mark.parametrize("n", [1, 3])
def test_samples_are_images(small_hparams, n):
    images = VAE(small_hparams()).sample(n, temperature=0.7)
    assert images.shape == (n, 8, 8, 3) and images.dtype == torch.uint8


def test_what_does_not_fit_the_model_is_named(small_hparams, small_batch):
    vae, (input, target) = VAE(small_hparams()).eval(), small_batch
    for call, words in (
        (lambda: vae(input[:, :, :4], target), r"input is \[4, 3, 4, 8\], it must be \[B, 3, 8, 8\]"),
        (lambda: vae.encode(input[0]), r"input is \[3, 8, 8\]"),
        (lambda: vae(input, input), r"target is torch.float32 \[4, 3, 8, 8\], it must be float \[B, 8, 8, 3\]"),
        (lambda: vae(input, target.byte()), r"target is torch.uint8 \[4, 8, 8, 3\]"),
        (lambda: vae(input, target * 255), r"target lies in \[-25\d.*, 25\d.*\], it must lie in \[-1, 1\]"),
        (lambda: vae.sample(-1), "n is -1, it must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("flags, nats", [
    (["--stable"], 0), (["--sigma_param", "upbounded1", "--prior_const1"], math.log(2) - 3 / 8),
    (["--sigma_param", "upbounded1", "--posterior", "residual"], math.log(2) - 3 / 8)])
def test_the_rate_of_a_new_model_is_that_of_its_scales(small_hparams, small_batch, flags, nats):
    vae = VAE(small_hparams(*flags))
    latents = sum(math.prod(shape) for shape in vae.latent_shapes)
    assert vae.first_rate() == pytest.approx(nats * latents / (8 * 8 * 3), rel=1e-5)
    assert vae(*small_batch).rate.mean().item() == pytest.approx(vae.first_rate(), rel=0.02, abs=0.01)
