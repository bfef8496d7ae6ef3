"""A mixture of discretized logistics for each pixel, as in PixelCNN++ (Salimans 2017)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vdvae.data.spec import DatasetSpec
from vdvae.model.likelihood.pixel_layer import PixelLayer

MIN_LOG_SCALE = -7.0  # of 8 bits; for others as many times the bin's width
MIN_BIN_MASS = 1e-5  # at or below it, the density at the bin's centre stands in for the bin's mass
SMALL = 1e-3  # below it d^2/24, which _log_fine_mass leaves out, is less than float32's eps
NOISE_EDGE = 1e-5  # uniform noise stays this far from 0 and 1


class MixtureParams(NamedTuple):
    """Parameters of every pixel: `logits` `[B, H, W, M]`, the others `[B, H, W, C, M]`; float32."""

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    coeffs: Tensor | None = None  # of RGB alone


class LogisticMixture(PixelLayer):
    """A mixture of `num_mixtures` logistics for each pixel, which all its channels share.

    In RGB the mean of green depends on red, that of blue on red and green. In any other number, channels are independent of
    each other given the component.

    In 5 bits the original takes bins of 2 / 31, without an open one at the top, so that their probabilities sum to
    0.5 to 1.03, and it rounds samples down. With `exact` they sum to 1, and samples are rounded to the nearest level. The
    nll of other depths is the same either way.
    """

    def __init__(self, width: int, spec: DatasetSpec, num_mixtures: int, exact: bool = False):
        per_channel = 3 if spec.channels == 3 else 2  # mean, log scale and in RGB a coefficient
        super().__init__(width, (1 + per_channel * spec.channels) * num_mixtures, spec)
        self.num_mixtures, self.per_channel, self.exact, self.is_fine = num_mixtures, per_channel, exact, spec.bits > 8
        bin_width = 2 / 31 if spec.five_bit and not exact else self.bin_width
        self.half_bin, self.log_bin = bin_width / 2, math.log(bin_width)
        self.top = self.top_level / self.half_range - 1 if exact else 1.0
        self.min_log_scale = MIN_LOG_SCALE - math.log(spec.top_level / 255)

    def forward(self, state: Tensor) -> MixtureParams:
        """Final state `[B, width, H, W]` to the mixture's parameters."""
        out = self.parameters_of(state)
        logits, rest = out[..., : self.num_mixtures], out[..., self.num_mixtures :]
        means, log_scales, *coeffs = rest.unflatten(-1, (self.channels, -1)).chunk(self.per_channel, dim=-1)
        return MixtureParams(logits, means, log_scales.clamp(min=self.min_log_scale), *map(torch.tanh, coeffs))

    def nll(self, state: Tensor, target: Tensor) -> Tensor:
        """Negative log likelihood `[B]`, nats per dimension, of targets `[B, H, W, C]` in [-1, 1]."""
        params = self(state)
        log_probs = self._log_bin_mass(params, target.unsqueeze(-1)).sum(dim=3)  # [B, H, W, M]
        log_likelihood = torch.logsumexp(log_probs + F.log_softmax(params.logits, dim=-1), dim=-1)
        return -log_likelihood.sum(dim=(1, 2)) / target[0].numel()

    def _log_bin_mass(self, params: MixtureParams, x: Tensor) -> Tensor:
        """Log mass `[B, H, W, C, M]` of each component in the bin of `x` `[B, H, W, C, 1]`."""
        centred = x - (params.means if params.coeffs is None else _conditional_means(params, x))
        inverse_scale = torch.exp(-params.log_scales)
        upper, lower = inverse_scale * (centred + self.half_bin), inverse_scale * (centred - self.half_bin)
        if self.is_fine:
            inside = self._log_fine_mass(params, inverse_scale, upper, lower)
        else:
            inside = self._log_mass_or_density(params, inverse_scale * centred, upper, lower)
        lowest, highest = x < -1 + self.half_bin, x > self.top - self.half_bin
        return torch.where(lowest, F.logsigmoid(upper), torch.where(highest, F.logsigmoid(-lower), inside))

    def _log_mass_or_density(self, params: MixtureParams, middle: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
        """The original's: the difference of the CDFs, or where that is small the density at the bin's centre."""
        mass = torch.sigmoid(upper) - torch.sigmoid(lower)
        log_density = middle - params.log_scales - 2 * F.softplus(middle)
        has_mass = mass > MIN_BIN_MASS
        log_mass = torch.where(has_mass, mass, 1.0).log()  # the branch not taken must not divide by 0
        return torch.where(has_mass, log_mass, log_density + self.log_bin)

    def _log_fine_mass(self, params: MixtureParams, inverse_scale: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
        """The same for bins of which float32's CDFs show few digits.

        sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(-d)), d = u - l; log(1 - exp(-d)) = log d - d/2 for small d.
        """
        d = 2 * self.half_bin * inverse_scale
        log_small = self.log_bin - params.log_scales - d / 2
        log_rise = torch.where(d < SMALL, log_small, torch.log(-torch.expm1(-d.clamp(min=SMALL))))
        return F.logsigmoid(upper) + F.logsigmoid(-lower) + log_rise

    def sample(self, state: Tensor) -> Tensor:
        """Images `[B, H, W, C]`: a component by Gumbel-max, then logistic noise, in RGB red before green before blue."""
        params = self(state)
        gumbel = -torch.log(-torch.log(_uniform(params.logits)))
        chosen = torch.argmax(params.logits + gumbel, dim=-1)[..., None, None].expand(-1, -1, -1, self.channels, 1)
        means, log_scales, *coeffs = (each.gather(-1, chosen).squeeze(-1) for each in params[1:] if each is not None)
        noise = torch.logit(_uniform(means))
        x = means + log_scales.exp() * noise
        x = _conditional_draw(x, *coeffs) if coeffs else x.clamp(-1, 1)
        return self.nearest_levels(x) if self.exact else ((x + 1) * self.half_range).to(self.dtype)


def _conditional_draw(x: Tensor, coeffs: Tensor) -> Tensor:
    """Draws `[B, H, W, 3]` without the means' dependence on other channels, and the coefficients, to RGB."""
    red = x[..., 0].clamp(-1, 1)
    green = (x[..., 1] + coeffs[..., 0] * red).clamp(-1, 1)
    blue = (x[..., 2] + coeffs[..., 1] * red + coeffs[..., 2] * green).clamp(-1, 1)
    return torch.stack([red, green, blue], dim=-1)


def _conditional_means(params: MixtureParams, x: Tensor) -> Tensor:
    """Means `[B, H, W, 3, M]` given the channels before: green's takes red, blue's takes red and green."""
    red, green = x[..., 0, :], x[..., 1, :]
    means, coeffs = params.means.unbind(dim=3), params.coeffs.unbind(dim=3)
    green_mean = means[1] + coeffs[0] * red
    blue_mean = means[2] + coeffs[1] * red + coeffs[2] * green
    return torch.stack([means[0], green_mean, blue_mean], dim=3)


def _uniform(like: Tensor) -> Tensor:
    """Noise in [1e-5, 1 - 1e-5], filled in the order of the dimensions whatever the strides of `like`."""
    return torch.empty(like.shape, dtype=like.dtype, device=like.device).uniform_(NOISE_EDGE, 1 - NOISE_EDGE)
