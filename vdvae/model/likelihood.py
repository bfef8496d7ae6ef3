"""The likelihood of the pixels: a mixture of discretized logistics over RGB, as in PixelCNN++ (Salimans 2017)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdvae.model.blocks import conv

MIN_LOG_SCALE = -7.0
MIN_BIN_MASS = 1e-5  # at or below it, the density at the bin's centre stands in for the bin's mass
NOISE_EDGE = 1e-5  # uniform noise stays this far from 0 and 1


class MixtureParams(NamedTuple):
    """Parameters of every pixel: `logits` `[B, H, W, M]`, the others `[B, H, W, 3, M]`; float32."""

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    coeffs: Tensor


class LogisticMixture(nn.Module):
    """A 1x1 convolution from the decoder's final state to the mixture, its nll and its samples.

    Pixels are one of 256 grey levels, -1 to 1 in steps of 2 / 255; with `five_bit` one of 32, from -1 in steps of 16 / 255.
    The original takes bins of 2 / 31 for the latter, without an open one at the top, so that their probabilities sum to
    0.5 to 1.03, and it rounds samples down. With `exact` they sum to 1, and samples are rounded to the nearest level. The
    nll of 256 levels is the same either way.
    """

    def __init__(self, width: int, num_mixtures: int, five_bit: bool = False, exact: bool = False):
        super().__init__()
        self.num_mixtures, self.exact = num_mixtures, exact
        self.step = 8 if five_bit else 1
        self.top_level = 256 - self.step
        bin_width = 2 / 31 if five_bit and not exact else self.step / 127.5
        self.half_bin, self.log_bin = bin_width / 2, math.log(bin_width)
        self.top = self.top_level / 127.5 - 1 if exact else 1.0
        self.out_conv = conv(width, 10 * num_mixtures, 1)

    def forward(self, state: Tensor) -> MixtureParams:
        """Final state `[B, width, H, W]` to the mixture's parameters, in float32 under autocast too."""
        with torch.autocast(state.device.type, enabled=False):
            out = self.out_conv(state.float()).permute(0, 2, 3, 1)  # [B, H, W, 10 M]
        logits, rest = out[..., : self.num_mixtures], out[..., self.num_mixtures :]
        means, log_scales, coeffs = rest.unflatten(-1, (3, 3 * self.num_mixtures)).chunk(3, dim=-1)
        return MixtureParams(logits, means, log_scales.clamp(min=MIN_LOG_SCALE), torch.tanh(coeffs))

    def nll(self, state: Tensor, target: Tensor) -> Tensor:
        """Negative log likelihood `[B]`, nats per dimension, of targets `[B, H, W, 3]` in [-1, 1]."""
        params = self(state)
        log_probs = self._log_bin_mass(params, target.unsqueeze(-1)).sum(dim=3)  # [B, H, W, M]
        log_likelihood = torch.logsumexp(log_probs + F.log_softmax(params.logits, dim=-1), dim=-1)
        return -log_likelihood.sum(dim=(1, 2)) / target[0].numel()

    def _log_bin_mass(self, params: MixtureParams, x: Tensor) -> Tensor:
        """Log mass `[B, H, W, 3, M]` of each component in the bin of `x` `[B, H, W, 3, 1]`."""
        centred = x - _conditional_means(params, x)
        inverse_scale = torch.exp(-params.log_scales)
        upper, lower = inverse_scale * (centred + self.half_bin), inverse_scale * (centred - self.half_bin)
        mass = torch.sigmoid(upper) - torch.sigmoid(lower)
        middle = inverse_scale * centred
        log_density = middle - params.log_scales - 2 * F.softplus(middle)
        has_mass = mass > MIN_BIN_MASS
        log_mass = torch.where(has_mass, mass, 1.0).log()  # the branch not taken must not divide by 0
        inside = torch.where(has_mass, log_mass, log_density + self.log_bin)
        return torch.where(x < -0.999, F.logsigmoid(upper), torch.where(x > self.top - 0.001, F.logsigmoid(-lower), inside))

    def sample(self, state: Tensor) -> Tensor:
        """Images uint8 `[B, H, W, 3]`: a component by Gumbel-max, then logistic noise, red before green before blue."""
        params = self(state)
        gumbel = -torch.log(-torch.log(_uniform(params.logits)))
        chosen = torch.argmax(params.logits + gumbel, dim=-1)[..., None, None].expand(-1, -1, -1, 3, 1)
        means, log_scales, coeffs = (each.gather(-1, chosen).squeeze(-1) for each in params[1:])
        noise = torch.logit(_uniform(means))
        x = means + log_scales.exp() * noise
        red = x[..., 0].clamp(-1, 1)
        green = (x[..., 1] + coeffs[..., 0] * red).clamp(-1, 1)
        blue = (x[..., 2] + coeffs[..., 1] * red + coeffs[..., 2] * green).clamp(-1, 1)
        levels = (torch.stack([red, green, blue], dim=-1) + 1) * 127.5
        if self.exact:
            levels = ((levels / self.step).round() * self.step).clamp(max=self.top_level)
        return levels.to(torch.uint8)


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
