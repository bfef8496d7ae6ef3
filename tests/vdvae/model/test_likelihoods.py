"""What every likelihood keeps for any number of channels and bits, each against its definition in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid, softplus

from stable_params import closed_form_scale
from vdvae.data.preprocess import Preprocess
from vdvae.model.likelihood import make_likelihood
from vdvae.model.likelihood.pixel_layer import PixelLayer
from vdvae.settings.hparams import Hparams, HparamsError, load_hparams

WIDTH = 6
FLAGS = ["--hps", "own32", "--width", str(WIDTH), "--custom_width_str", "", "--num_mixtures", "3"]
KINDS = {
    "mixture": [],
    "bounded": ["--likelihood", "normal"],
    "exp": ["--likelihood", "normal", "--pixel_sigma_param", "exp", "--pixel_loc", "identity"],
    "global": ["--likelihood", "normal", "--pixel_sigma_param", "global"],
    "bernoulli": ["--likelihood", "bernoulli"],
    "threshold": ["--likelihood", "bernoulli", "--binarize", "threshold"],
}
every_kind = pytest.mark.parametrize("kind, channels, bits", [
    *itertools.product(KINDS, (1, 3, 5), (8, 16)), ("bernoulli", 1, 1), ("mixture", 1, 4), ("bounded", 2, 12)])


def hparams_of(kind: str, channels: int, bits: int, *flags) -> Hparams:
    return load_hparams([*FLAGS, *KINDS[kind], "--channels", str(channels), "--bits", str(bits), *map(str, flags)])


def layer_of(hparams: Hparams, spread: float = 1.0) -> PixelLayer:
    torch.manual_seed(0)
    layer = make_likelihood(hparams)
    layer.out_conv.bias.data.normal_(0, spread)
    return layer


def batch_of(hparams: Hparams, shape: tuple = (2, 4, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    """A final state and the target of random images, black and white among them."""
    spec = hparams.dataset_spec
    levels = torch.randint(0, 2**spec.bits, (*shape, spec.channels), generator=torch.Generator().manual_seed(1))
    levels[:, 0], levels[:, 1] = 0, 2**spec.bits - 1
    torch.manual_seed(2)
    target = Preprocess(spec)(levels.to(torch.uint8 if spec.bits <= 8 else torch.uint16)).target
    return torch.randn(shape[0], WIDTH, *shape[1:]), target


@every_kind
def test_nll_samples_and_gradients(kind, channels, bits):
    hparams = hparams_of(kind, channels, bits)
    layer, (state, target) = layer_of(hparams), batch_of(hparams)
    torch.manual_seed(3)
    nll = layer.nll(state, target)
    torch.manual_seed(3)
    expected = reference_nll(layer, kind, state, target)
    # The original's masses keep few digits where they are small: 1e-5 of 6e-8 a bin.
    tolerance = 2e-3 if kind == "mixture" and bits <= 8 else 2e-5
    torch.testing.assert_close(nll.double(), expected, rtol=tolerance, atol=0)
    nll.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    images = layer.sample(state)
    assert images.shape == target.shape and images.dtype == (torch.uint8 if bits <= 8 else torch.uint16)
    assert 0 <= images.int().min() and images.int().max() <= 2**bits - 1
    assert set(images.flatten().tolist()) <= {0, 2**bits - 1} or hparams.likelihood != "bernoulli"


def reference_nll(layer: PixelLayer, kind: str, state: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """float64 [B], from the definitions; draws the noise of a Normal where `nll` does."""
    out, target, bins = layer.parameters_of(state).detach().double(), target.double(), 2 * layer.half_range
    if kind in ("bernoulli", "threshold"):
        return softplus(-target * out).mean((1, 2, 3))
    if kind == "mixture":
        return -mixture_log_mass(layer, out, target).sum((1, 2)) / target[0].numel()
    y = target + 2 / bins * (torch.rand(target.shape) - 0.5).double()
    raw_loc, raw = (out[..., : layer.channels], out[..., layer.channels :])
    half = 1 + 1 / bins
    loc = raw_loc if kind == "exp" else half * (2 * raw_loc.sigmoid() - 1)
    alpha = 2 / bins / math.sqrt(12)
    sigma = {"exp": raw.exp(), "bounded": alpha + (2 * half - alpha) * raw.sigmoid()}.get(kind)
    sigma = layer.raw_scale.detach().double().exp() if kind == "global" else sigma
    log_density = -((y - loc) / sigma) ** 2 / 2 - sigma.log() - math.log(2 * math.pi) / 2
    return -(log_density + math.log(2 / bins)).mean((1, 2, 3))


def mixture_log_mass(layer: PixelLayer, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Log mass [B, H, W] of the pixels: differences of logistic CDFs, with open tails at both ends."""
    count, channels = layer.num_mixtures, layer.channels
    logits, rest = out[..., :count].log_softmax(-1), out[..., count:].unflatten(-1, (channels, -1, count))
    means, x = rest[..., 0, :], target[..., None]
    log_scales = rest[..., 1, :].clamp(min=-7 - math.log(layer.half_range / 127.5))
    if channels == 3:
        coeffs = rest[..., 2, :].tanh()
        green = means[..., 1, :] + coeffs[..., 0, :] * x[..., 0, :]
        blue = means[..., 2, :] + coeffs[..., 1, :] * x[..., 0, :] + coeffs[..., 2, :] * x[..., 1, :]
        means = torch.stack([means[..., 0, :], green, blue], -2)
    half = 0.5 / layer.half_range
    upper, lower = ((x - means + sign * half) / log_scales.exp() for sign in (1, -1))
    upper, lower = upper.masked_fill(x > 1 - half, math.inf), lower.masked_fill(x < -1 + half, -math.inf)
    ends = logsigmoid(upper) + logsigmoid(-lower)
    inside = torch.log(-torch.expm1(lower - upper))
    return torch.logsumexp((ends + inside).sum(-2) + logits, -1)


@pytest.mark.parametrize("channels, log_scale", [(1, -1.0), (1, -5.0), (5, -3.0)])
def test_the_masses_of_all_grey_levels_sum_to_one(channels, log_scale):
    """Those of one channel; the others are white with certainty."""
    layer = layer_of(hparams_of("mixture", channels, 8), spread=0.0)
    parameters = layer.out_conv.bias.data[3:].view(channels, 2, 3)
    parameters[:, 0], parameters[:, 1] = 50.0, log_scale
    parameters[-1, 0] = torch.tensor([-0.9, 0.1, 1.1])
    target = torch.ones(256, 1, 1, channels)
    target[..., -1] = torch.linspace(-1, 1, 256)[:, None, None]
    total = (-channels * layer.nll(torch.zeros(256, WIDTH, 1, 1), target).double()).exp().sum().item()
    assert total == pytest.approx(1, abs=2e-3)  # bins whose mass is below 1e-5 take the density at their centre


@pytest.mark.parametrize("log_scale", [-20.0, -12.0, -8.0, -3.2, -1.0, 80.0])
def test_masses_of_16_bits_keep_their_digits_at_every_scale(log_scale):
    """From the floor, which is as narrow in grey levels as that of 8 bits, to a scale whose masses are tiny."""
    hparams = hparams_of("mixture", 1, 16)
    layer = layer_of(hparams, spread=0.0)
    layer.out_conv.weight.data.zero_()
    layer.out_conv.bias.data[6:] = log_scale
    target = (torch.arange(32760, 32776).float() / 32767.5 - 1).reshape(1, 4, 4, 1)
    nll = layer.nll(torch.zeros(1, WIDTH, 4, 4), target)
    torch.testing.assert_close(nll.double(), reference_nll(layer, "mixture", torch.zeros(1, WIDTH, 4, 4), target), rtol=1e-5, atol=0)
    nll.sum().backward()
    assert layer.out_conv.bias.grad.isfinite().all()


@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("levels, difference", [(20.0, 0.0), (0.4, None)])
def test_the_nats_of_normal_pixels_are_those_of_grey_levels(bits, levels, difference):
    """Sigma in grey levels: wide, the mean over the noise is -log of the Normal's mass in the bin; narrow, it is above that."""
    layer = layer_of(hparams_of("global", 1, bits), spread=0.0)
    layer.out_conv.weight.data.zero_()  # the mean is mid grey, half a level from the one in the middle
    layer.raw_scale.data.fill_(math.log(levels / layer.half_range))
    target = torch.full((1, 400, 400, 1), 0.5 / layer.half_range)
    nll = layer.nll(torch.zeros(1, WIDTH, 400, 400), target).item()
    exact = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), levels)
    log_mass = torch.log(exact.cdf(torch.tensor(1.0)) - exact.cdf(torch.tensor(0.0))).item()
    if difference is None:
        assert nll > -log_mass + 0.1
    else:
        assert nll == pytest.approx(-log_mass, abs=1e-3)


@pytest.mark.parametrize("bits, alpha", [(8, 2 / 255 / math.sqrt(12)), (16, 2 / 65535 / math.sqrt(12))])
def test_bounded_alone_is_between_the_noise_of_a_grey_level_and_the_range(bits, alpha):
    scale = make_likelihood(hparams_of("bounded", 1, bits)).scale
    assert scale.alpha == pytest.approx(alpha) and scale.omega == pytest.approx(2 + 2 / (2**bits - 1))


def test_the_global_scale_starts_at_that_of_images_seen_as_mid_grey():
    """Equation 4 of images that have the mean and the standard deviation of the settings."""
    images = np.random.default_rng(0).normal(60, 25, 100_000).clip(0, 255).astype(np.uint8).reshape(1, 1, -1, 1)
    hparams = hparams_of("global", 1, 8, "--pixel_mean", images.mean(), "--pixel_std", images.std())
    target = Preprocess(hparams.dataset_spec)(torch.from_numpy(images)).target
    expected = closed_form_scale(torch.zeros_like(target), target).log_sigma
    torch.testing.assert_close(make_likelihood(hparams).raw_scale.detach(), expected, rtol=1e-5, atol=1e-5)


def test_samples_of_normal_pixels_have_their_mean_and_sigma():
    """40,000 draws: within five standard errors."""
    layer = layer_of(hparams_of("global", 1, 8), spread=0.0)
    layer.out_conv.weight.data.zero_()
    layer.raw_scale.data.fill_(math.log(10 / 127.5))
    draws = layer.sample(torch.zeros(1, WIDTH, 200, 200)).double()
    assert draws.mean().item() == pytest.approx(127.5, abs=5 * 10 / 200)
    assert draws.std().item() == pytest.approx((100 + 1 / 12) ** 0.5, rel=5 / 283)


def test_white_is_as_likely_as_a_pixel_is_bright_or_begins_at_mid_grey():
    images = torch.arange(256).to(torch.uint8).repeat(400, 1).reshape(400, 256, 1, 1)
    for word, expected in (("bernoulli", torch.arange(256) / 255), ("threshold", (torch.arange(256) > 127).float())):
        network_input, target = Preprocess(hparams_of(word, 1, 8).dataset_spec)(images)
        assert target.unique().tolist() == [-1, 1] and len(network_input.unique()) == 2
        share = (target > 0).float().mean(dim=0).flatten()
        assert ((share - expected).abs() <= 5 * (expected * (1 - expected) / 400) ** 0.5 + 1e-6).all()
    again = Preprocess(hparams_of("bernoulli", 1, 8).dataset_spec)(images)
    assert not torch.equal(again.target, Preprocess(hparams_of("bernoulli", 1, 8).dataset_spec)(images).target)


@pytest.mark.parametrize("flags, words", [
    (["--likelihood", "gaussian"], ["'gaussian'", "allowed: logistic_mixture, normal, bernoulli"]),
    (["--likelihood", "normal", "--pixel_sigma_param", "bounded2_1"], ["alpha must be below omega", "2.0", "1.0"]),
    (["--likelihood", "normal", "--pixel_sigma_param", "boundd"], ["--pixel_sigma_param", "'boundd'", "or bounded, global"]),
    (["--likelihood", "normal", "--pixel_loc", "tanh"], ["pixel_loc is 'tanh'", "identity, sigmoid"]),
    (["--pixel_sigma_param", "global"], ["--pixel_sigma_param global is for --likelihood normal, not logistic_mixture"]),
    (["--likelihood", "normal", "--binarize", "threshold"], ["--binarize threshold is for --likelihood bernoulli"]),
    (["--likelihood", "bernoulli", "--binarize", "half"], ["'half'", "random, threshold"]),
])
def test_words_and_bounds_that_cannot_be_are_named(flags, words):
    with pytest.raises(HparamsError) as caught:
        load_hparams([*FLAGS, *flags])
    assert all(word in str(caught.value) for word in words), caught.value
