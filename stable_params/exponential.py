"""Scale parameterizations without a bound: NaiveExp, Exp and ExpLin (Dehaene & Brossard 2021, arXiv 2106.13739)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stable_params.closed_form import ClosedForm
from stable_params.kl import Factors
from stable_params.parameterization import Parameterization
from stable_params.scale import Scale


@dataclass(frozen=True)
class NaiveExp(Parameterization):
    """sigma = exp p, log sigma = log(exp p), both evaluated literally (eq. 7): the form that breaks, for comparison.

    Where exp p underflows (p < -103.97 in float32, p < -17.33 in float16) sigma is 0, log sigma -inf and its gradient
    inf * 0 = NaN; where it overflows (p > 88.72, p > 11.09) both are +inf and log sigma's gradient is 0 * inf = NaN.
    """

    name: ClassVar[str] = "naive_exp"

    def _scale(self, raw: Tensor) -> Scale:
        sigma = raw.exp()
        return Scale(sigma, sigma.log())


@dataclass(frozen=True)
class Exp(ClosedForm):
    """sigma = exp p, log sigma = p (eq. 9). Slopes: exp p and 1.

    log sigma is exact for every p. sigma and its gradient underflow to 0 and overflow to +inf where exp p does
    (p > 88.72 in float32); p = -inf gives (0, -inf) and p = +inf gives (inf, inf).
    """

    name: ClassVar[str] = "exp"

    def factors(self, raw: Tensor) -> Factors:
        return Factors(raw)

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return grad

    def sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return grad * raw.exp()

    def _scale(self, raw: Tensor) -> Scale:
        return Scale(raw.exp(), raw)


@dataclass(frozen=True)
class ExpLin(ClosedForm):
    """sigma = exp p for p <= 0 and p + 1 for p > 0; log sigma = p and log(p + 1) (eq. 11).

    Slopes of sigma: exp p, 1; of log sigma: 1, 1 / (p + 1); both are 1 at p = 0. Nothing overflows for finite p.
    p = -inf gives (0, -inf), p = +inf gives (inf, inf), with finite gradients.
    Each branch is evaluated at p clipped to its side (eq. 16-17), where the other one is 1 or 0.
    """

    name: ClassVar[str] = "explin"

    def factors(self, raw: Tensor) -> Factors:
        excess = raw.clamp(min=0)
        return Factors(raw.clamp(max=0), excess, excess + 1, bounded=False)

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return grad / raw.clamp(min=0).add_(1)

    def sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return grad * raw.clamp(max=0).exp_()
