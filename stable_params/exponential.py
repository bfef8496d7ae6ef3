"""Scale parameterizations without a bound: NaiveExp, Exp and ExpLin (Dehaene & Brossard 2021, arXiv 2106.13739)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import relu, threshold

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
class Exp(Parameterization):
    """sigma = exp p, log sigma = p (eq. 9). Slopes: exp p and 1.

    log sigma is exact for every p. sigma and its gradient underflow to 0 and overflow to +inf where exp p does
    (p > 88.72 in float32); p = -inf gives (0, -inf) and p = +inf gives (inf, inf).
    """

    name: ClassVar[str] = "exp"

    def _scale(self, raw: Tensor) -> Scale:
        return Scale(raw.exp(), raw)


@dataclass(frozen=True)
class ExpLin(Parameterization):
    """sigma = exp p for p <= 0 and p + 1 for p > 0; log sigma = p and log(p + 1) (eq. 11).

    Slopes of sigma: exp p, 1; of log sigma: 1, 1 / (p + 1); both are 1 at p = 0. Nothing overflows for finite p.
    p = -inf gives (0, -inf), p = +inf gives (inf, inf), with finite gradients.
    """

    name: ClassVar[str] = "explin"

    def _scale(self, raw: Tensor) -> Scale:
        below, above = split_at_zero(raw)
        return Scale(below.exp() + above, below + above.log1p())


def split_at_zero(raw: Tensor) -> tuple[Tensor, Tensor]:
    """(min(raw, 0), max(raw, 0)): the clipped arguments of the two branches (eq. 16-18), NaN kept in both.

    Each branch then stays finite where the other one is meant, in value and gradient. The gradient at raw = 0 goes to
    the second alone, so that a sum of the two branches counts it once: relu passes none at its limit, threshold passes
    it above the largest number below 0. Their backwards are plain loops where that of clamp builds masks.
    """
    largest_below = -torch.finfo(raw.dtype).smallest_normal * torch.finfo(raw.dtype).eps
    return -relu(-raw), threshold(raw, largest_below, 0.0)
