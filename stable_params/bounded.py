"""Scales with a bound: UpBounded, DownBounded, Bounded, Constant (Dehaene & Brossard 2021, arXiv 2106.13739)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stable_params.parameterization import Parameterization, require_positive
from stable_params.scale import Scale


@dataclass(frozen=True)
class UpBounded(Parameterization):
    """sigma below `omega`: omega/2 exp p for p <= 0 and omega/2 (2 - exp(-p)) for p > 0 (eq. 12).

    log sigma = log(omega/2) + p and log(omega/2) + log(2 - exp(-p)). At p = 0 the slope of sigma is omega/2 from both
    sides, that of log sigma is 1. p = -inf gives (0, -inf) and p = +inf gives (omega, log omega), with finite gradients.
    Each branch is evaluated at p clipped to its side (eq. 18).
    Raises ValueError unless omega is finite and above 0.
    """

    omega: float
    name: ClassVar[str] = "upbounded"

    def __post_init__(self) -> None:
        require_positive("omega", self.omega)

    def _scale(self, raw: Tensor) -> Scale:
        # At 0 the slope of low is 1, that of high is 0. That of clamp(max=0) depends on the version of PyTorch.
        low, high = raw.masked_fill(raw > 0, 0), raw.relu()
        rise = 1 - torch.exp(-high)
        return Scale(self.omega / 2 * (low.exp() + rise), low + rise.log1p() + math.log(self.omega / 2))  # eq. 12


@dataclass(frozen=True)
class DownBounded(Parameterization):
    """sigma = alpha + exp p, above `alpha` (eq. 14).

    log sigma = logaddexp(p, log alpha), which is finite for every finite p; sigma and its gradient overflow to +inf
    where exp p does. p = -inf gives (alpha, log alpha), p = +inf gives (inf, inf).
    Raises ValueError unless alpha is finite and above 0.
    """

    alpha: float
    name: ClassVar[str] = "downbounded"

    def __post_init__(self) -> None:
        require_positive("alpha", self.alpha)

    def _scale(self, raw: Tensor) -> Scale:
        log_alpha = raw.new_full((), math.log(self.alpha))
        return Scale(raw.exp() + self.alpha, torch.logaddexp(raw, log_alpha))  # eq. 14


@dataclass(frozen=True)
class Bounded(Parameterization):
    """sigma = alpha + (omega - alpha) sigmoid p, between `alpha` and `omega` (eq. 15).

    As sigma = alpha sigmoid(-p) + omega sigmoid p, log sigma is the logaddexp of the logs of these terms, which keeps
    approaching its bounds where sigma itself has rounded to them. p = -inf gives (alpha, log alpha), p = +inf gives
    (omega, log omega), with gradients 0. Raises ValueError unless both are finite and above 0, and alpha < omega.
    """

    alpha: float
    omega: float
    name: ClassVar[str] = "bounded"

    def __post_init__(self) -> None:
        require_positive("alpha", self.alpha)
        require_positive("omega", self.omega)
        if self.alpha >= self.omega:
            raise ValueError(f"alpha must be below omega, got alpha {self.alpha!r} and omega {self.omega!r}")

    def _scale(self, raw: Tensor) -> Scale:
        sigma = self.alpha + (self.omega - self.alpha) * raw.sigmoid()  # eq. 15
        log_lower = logsigmoid(-raw) + math.log(self.alpha)
        log_upper = logsigmoid(raw) + math.log(self.omega)
        return Scale(sigma, torch.logaddexp(log_lower, log_upper))


@dataclass(frozen=True)
class Constant(Parameterization):
    """sigma is the given constant (sec. 3.4) whatever raw holds, NaN included; raw gives shape, dtype and device.

    No gradient reaches raw. `flag` is a label only: `parse_parameterization` does not know this class.
    Raises ValueError unless sigma is finite and above 0.
    """

    sigma: float = 1.0
    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        require_positive("sigma", self.sigma)

    def _scale(self, raw: Tensor) -> Scale:
        return Scale(torch.full_like(raw, self.sigma), torch.full_like(raw, math.log(self.sigma)))
