"""Scale parameterizations without a bound: NaiveExp, Exp and ExpLin (Dehaene & Brossard 2021, arXiv 2106.13739)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stable_params.parameterization import Parameterization
from stable_params.scale import Scale


@dataclass(frozen=True)
class NaiveExp(Parameterization):
    """sigma = exp p, log sigma = log(exp p), both evaluated literally (eq. 7): the form that breaks, for comparison.

    Where exp p underflows (p < -103.97 in float32, p < -17.33 in float16) sigma is 0, log sigma is -inf and its gradient
    is inf * 0 = NaN; code compiled for a CUDA GPU has no subnormal exp p, so there it begins at p < -87.33. Where exp p
    overflows (p > 88.72, p > 11.09) both are +inf and the gradient of log sigma is 0 * inf = NaN.
    """

    name: ClassVar[str] = "naive_exp"

    def _scale(self, raw: Tensor) -> Scale:
        sigma = raw.exp()  # eq. 7
        return Scale(sigma, sigma.log())


@dataclass(frozen=True)
class Exp(Parameterization):
    """sigma = exp p, log sigma = p (eq. 9). Slopes: exp p and 1.

    log sigma is exact for every p. sigma and its gradient underflow to 0 and overflow to +inf where exp p does
    (p > 88.72 in float32). p = -inf gives (0, -inf) and p = +inf gives (inf, inf).
    """

    name: ClassVar[str] = "exp"

    def _scale(self, raw: Tensor) -> Scale:
        return Scale(raw.exp(), raw)  # eq. 9


@dataclass(frozen=True)
class ExpLin(Parameterization):
    """sigma = exp p for p <= 0 and p + 1 for p > 0; log sigma = p and log(p + 1) (eq. 11).

    Slopes of sigma: exp p, 1; of log sigma: 1, 1/(p + 1); both are 1 at p = 0. Nothing overflows for finite p.
    p = -inf gives (0, -inf) and p = +inf gives (inf, inf), with finite gradients.
    Each branch is evaluated at p clipped to its side (eq. 16-17).
    """

    name: ClassVar[str] = "explin"

    def _scale(self, raw: Tensor) -> Scale:
        # At 0 the slope of low is 1, that of high is 0. That of clamp(max=0) depends on the version of PyTorch.
        low, high = raw.masked_fill(raw > 0, 0), raw.relu()
        return Scale(low.exp() + high, low + high.log1p())  # eq. 11
