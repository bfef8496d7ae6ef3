"""Scale parameterizations with a bound: UpBounded, DownBounded, Bounded (Dehaene & Brossard 2021, arXiv 2106.13739)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stable_params.closed_form import ClosedForm
from stable_params.kl import Factors
from stable_params.numerics import exp_of_minus_
from stable_params.parameterization import Parameterization, require_positive
from stable_params.scale import Scale


@dataclass(frozen=True)
class UpBounded(ClosedForm):
    """sigma below `omega`: omega/2 exp p for p <= 0 and omega/2 (2 - exp(-p)) for p > 0 (eq. 12).

    log sigma = log(omega/2) + p and log(omega/2) + log(2 - exp(-p)). At p = 0 the slope of sigma is omega/2 from both
    sides, that of log sigma 1. p = -inf gives (0, -inf), p = +inf gives (omega, log omega), with finite gradients.
    Each branch is evaluated at p clipped to its side (eq. 18).
    Raises ValueError unless omega is finite and above 0.
    """

    omega: float
    name: ClassVar[str] = "upbounded"

    def __post_init__(self) -> None:
        require_positive("omega", self.omega)

    def factors(self, raw: Tensor) -> Factors:
        power, decay = _power_and_decay(raw)
        return Factors(raw.clamp(max=0), 1 - decay, 2 - decay, decay, self.omega / 2, power=power)

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        decay = raw.clamp(min=0).neg_().exp_()
        return grad * (decay / (2 - decay))

    def sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return (grad * raw.abs().neg_().exp_()).mul_(self.omega / 2)


def _power_and_decay(raw: Tensor) -> tuple[Tensor | None, Tensor]:
    """exp p up to 0, then 1, if it comes for nothing; and 1 up to 0, then exp(-p), accurate relative to 1."""
    if not torch.compiler.is_compiling():
        return None, exp_of_minus_(raw.clamp(min=0))
    above, of_distance = raw > 0, raw.abs().neg().exp()
    return torch.where(above, 1.0, of_distance), torch.where(above, of_distance, 1.0)


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
        return Scale(raw.exp() + self.alpha, torch.logaddexp(raw, log_alpha))


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
        sigma = raw.sigmoid() * (self.omega - self.alpha) + self.alpha
        log_lower = logsigmoid(-raw) + math.log(self.alpha)
        log_upper = logsigmoid(raw) + math.log(self.omega)
        return Scale(sigma, torch.logaddexp(log_lower, log_upper))
