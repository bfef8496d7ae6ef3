"""The scales of other code bases, to compare with: a softplus, and a soft and a hard clamp of log sigma."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import hardtanh, logsigmoid

from stable_params.parameterization import Parameterization, require_finite, require_positive
from stable_params.scale import Scale


@dataclass(frozen=True)
class Softplus(Parameterization):
    """sigma = log(1 + exp(beta p))/beta; Efficient-VDVAE (arXiv 2203.13751) has beta = log 2, which makes it 1 at p = 0.

    Slopes: sigmoid(beta p) for sigma, at most 1; sigmoid(beta p)/sigma for log sigma, between 0 and beta. With
    T = -log(eps of the dtype), sigma is p itself above beta p = T, and log sigma is beta p - log beta below -T. beta p is
    rounded before it is exponentiated, which costs sigma up to |beta p| eps, relative. p = -inf gives (0, -inf), p = +inf
    gives (inf, inf), with finite gradients.
    Raises ValueError unless beta is finite and above 0.
    """

    beta: float
    name: ClassVar[str] = "softplus"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)

    def _scale(self, raw: Tensor) -> Scale:
        exponent, branch = raw * self.beta, -math.log(torch.finfo(raw.dtype).eps)
        # From 0 rather than negated: a softplus that underflows is then 0, not -0.
        sigma = torch.where(exponent > branch, raw, (0 - logsigmoid(-exponent)) / self.beta)
        small = exponent < -branch
        # The branch not taken gets the log of 1: the log of a sigma that underflowed has no finite gradient.
        log_sigma = torch.where(small, exponent - math.log(self.beta), sigma.masked_fill(small, 1).log())
        return Scale(sigma, log_sigma)


@dataclass(frozen=True)
class SoftClamp(Parameterization):
    """sigma = exp(c tanh(p/c)) + floor, c = `limit`; NVAE (arXiv 2007.03898) has c 5 and floor 0.01; 0: no floor.

    log sigma = logaddexp(c tanh(p/c), log floor), finite for every p. Its slope is at most 1 and 0 at both ends: tanh's
    slope rounds to 0 from |p| = 9.01 c on in float32 (a CPU's tanh; a GPU's may round elsewhere nearby), so nothing pulls
    back a raw value that has gone so far. Where exp(c) overflows (c > 88.72 in float32), the gradient of sigma is NaN there.
    Raises ValueError unless limit is finite and above 0, and floor finite and not negative.
    """

    limit: float
    floor: float
    name: ClassVar[str] = "softclamp"

    def __post_init__(self) -> None:
        require_positive("limit", self.limit)
        require_finite("floor", self.floor)
        if self.floor < 0:
            raise ValueError(f"floor must not be negative, got {self.floor!r}")

    def _scale(self, raw: Tensor) -> Scale:
        log_clamped = torch.tanh(raw / self.limit) * self.limit
        if self.floor == 0:
            return Scale(log_clamped.exp(), log_clamped)
        log_floor = raw.new_full((), math.log(self.floor))
        return Scale(log_clamped.exp() + self.floor, torch.logaddexp(log_clamped, log_floor))


@dataclass(frozen=True)
class HardClamp(Parameterization):
    """log sigma = p kept within [low, high], sigma = exp of that; diffusers' clamp of log sigma^2 is low -15, high 10.

    Slope of log sigma: 1 between the bounds, 0 at them and beyond: a raw value that has left stays where it is.
    p = -inf gives (exp low, low), p = +inf gives (exp high, high), with gradients 0.
    Raises ValueError unless both are finite and low < high.
    """

    low: float
    high: float
    name: ClassVar[str] = "hardclamp"

    def __post_init__(self) -> None:
        require_finite("low", self.low)
        require_finite("high", self.high)
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low {self.low!r} and high {self.high!r}")

    def _scale(self, raw: Tensor) -> Scale:
        # Not clamp: its gradient is 0 where raw is NaN, which would hide it.
        log_sigma = hardtanh(raw, self.low, self.high)
        return Scale(log_sigma.exp(), log_sigma)
