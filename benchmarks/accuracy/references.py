"""What each scale parameterization promises, as float64 formulas of its own, written without stable_params' code.

A formula takes raw values in float64 and returns sigma, log sigma and their slopes in raw. A test compares them with 50
digits: they are within 1e-6 ULP of float32, of the value or of `units` where a sum of constants cancels, so float32 is
measured without double-double arithmetic.
"""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stable_params import Parameterization


class Quantities(NamedTuple):
    """One entry for each of sigma, log sigma and their slopes in raw."""

    sigma: object
    log_sigma: object
    slope: object
    log_slope: object


@dataclass(frozen=True)
class Reference:
    """Float64 formulas and limits of one parameterization.

    `evaluate(p, info)` returns Quantities of float64 tensors for the float64 tensor p, NaN where nothing is promised in
    the dtype of the torch.finfo `info`. `slope_bound` and `log_slope_bound` are the suprema of the slopes, which are
    never negative. Errors count in ULP of the value, or of `units` where the value is smaller (0: never), for sums with
    constants are not more accurate than their largest term. `exponent` is the largest exponent, in absolute value, that
    is rounded before it is exponentiated. `joins` are the raw values at which two smooth branches meet.
    `finite_log_sigma` says that log sigma is finite for every finite raw value. `fall` is the most, in ULP, by which
    sigma may fall below a value to its left.
    """

    evaluate: Callable[[Tensor, torch.finfo], Quantities]
    slope_bound: float
    log_slope_bound: float
    units: Quantities = Quantities(0.0, 0.0, 0.0, 0.0)
    exponent: float = 0.0
    joins: tuple[float, ...] = ()
    finite_log_sigma: bool = True
    fall: int = 1

    def limits(self, info: torch.finfo) -> Quantities:
        """Largest error in ULP that the roundings allow in the dtype of `info`.

        A rounding by half an ULP of a factor is up to a whole ULP of the product. sigma: exponential, sum, quotient,
        constant, product, sum. log sigma: an exponent rounded twice, a logarithm, a constant, a sum. Slopes: four more
        such steps. A rounded exponent x costs its exponential up to 2 |x| ULP, and the slope of log sigma exponentiates
        differences of logs that are rounded as numbers of their size.
        """
        exponential = 2 * min(self.exponent, -math.log(info.tiny * info.eps))  # exp(-x) is 0 beyond
        return Quantities(6.0 + exponential, 5.0, 4.0 + exponential, 4.0 + 2 * self.units.log_sigma)


def reference_of(parameterization: Parameterization) -> Reference:
    """The Reference of a parameterization; ValueError when there is none of its name."""
    if parameterization.name not in REFERENCES:
        raise ValueError(f"no reference of {parameterization.name!r}; there are references of {', '.join(REFERENCES)}")
    return REFERENCES[parameterization.name](*astuple(parameterization))


def _power(exponent: Tensor) -> Tensor:
    """exp of the exponent kept within +-700, far outside float32's range: beyond, exp takes 20 to 100 times longer."""
    return exponent.clamp(-700, 700).exp()


def _exp() -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        power = _power(p)
        return Quantities(power, p, power, torch.ones_like(p))

    return Reference(evaluate, math.inf, 1.0)


def _naive_exp() -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        power = _power(p)
        promised = (power >= info.tiny) & (power <= info.max)
        return Quantities(power, p.where(promised, math.nan), power, torch.ones_like(p).where(promised, math.nan))

    # Where sigma is subnormal 1/sigma, a factor of log sigma's slope, may overflow.
    return Reference(evaluate, math.inf, math.inf, units=Quantities(0.0, 1.0, 0.0, 0.0), finite_log_sigma=False)


def _explin() -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        above, one = p > 0, torch.ones_like(p)
        return Quantities(
            torch.where(above, 1 + p, _power(p)),
            torch.where(above, p.log1p(), p),
            torch.where(above, one, _power(p)),
            torch.where(above, 1 / (1 + p), one),
        )

    return Reference(evaluate, 1.0, 1.0, joins=(0.0,))


def _upbounded(omega: float) -> Reference:
    half, log_half, log_omega = omega / 2, math.log(omega) - math.log(2), math.log(omega)

    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        fall, above = _power(-p.abs()), p > 0  # exp(-|p|)
        near, far = (-(-p).expm1()).log1p() + log_half, (-fall / 2).log1p() + log_omega
        return Quantities(
            torch.where(above, 2 - fall, fall) * half,
            torch.where(above, torch.where(fall > 0.5, near, far), p + log_half),
            fall * half,
            torch.where(above, fall / (2 - fall), torch.ones_like(p)),
        )

    log_unit = max(abs(log_half), abs(log_omega), math.log(2))
    return Reference(evaluate, half, 1.0, units=Quantities(0.0, log_unit, 0.0, 0.0), joins=(0.0,))


def _downbounded(alpha: float) -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        power, inverse = _power(p), _power(-p)
        sigma = power + alpha
        log_low = torch.where(sigma < 0.5, sigma.log(), (power + (alpha - 1)).log1p())
        # Above 40 alpha exp(-p) is all that separates log sigma from p.
        log_sigma = torch.where(p > 40, p + alpha * inverse, log_low)
        return Quantities(sigma, log_sigma, power, 1 / (1 + alpha * inverse))

    return Reference(evaluate, math.inf, 1.0, units=Quantities(0.0, abs(math.log(alpha)), 0.0, 1.0))


def _bounded(alpha: float, omega: float) -> Reference:
    width = omega - alpha

    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        rise, fall = 1 / (1 + _power(-p)), 1 / (1 + _power(p))
        sigma = alpha + width * rise
        # sigma - 1, without the error of sigma's sum where sigma is near a bound of 1
        excess = torch.where(p > 0, (omega - 1) - width * fall, (alpha - 1) + width * rise)
        log_sigma = torch.where(excess.abs() < 0.5, excess.log1p(), sigma.log())
        slope = width * rise * fall
        return Quantities(sigma, log_sigma, slope, slope / sigma)

    log_unit = max(abs(math.log(alpha)), abs(math.log(omega)), math.log(2))
    return Reference(evaluate, width / 4, 1.0, units=Quantities(0.0, log_unit, width, 1.0))


def _softplus(beta: float) -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        z = beta * p
        rise = 1 / (1 + _power(-z))
        product = torch.where(z > 40, z + _power(-z), _power(z).log1p())  # beta sigma
        small = z < -40  # beta sigma is exp z there, to a relative 1e-17
        log_product = torch.where(small, z, product.log())
        log_slope = torch.where(small, beta, beta * rise / product)
        return Quantities(product / beta, log_product - math.log(beta), rise, log_slope)

    units = Quantities(0.0, max(1.0, abs(math.log(beta))), 0.0, beta)
    # beta p is finite for every finite p unless beta exceeds 1. Five roundings one after the other (product, exponential,
    # logarithm, sum, quotient) do not keep sigma's order to one ULP: it falls by two at some p between 0.02 and 0.06.
    return Reference(evaluate, 1.0, beta, units, exponent=math.inf, finite_log_sigma=beta <= 1, fall=2)


def _softclamp(limit: float, floor: float) -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        fraction = torch.tanh(p / limit)
        power = _power(limit * fraction)
        slope = power / torch.cosh(p / limit) ** 2
        sigma = power + floor
        log_sigma = sigma.log() if floor else limit * fraction
        return Quantities(sigma, log_sigma, slope, slope / sigma)

    log_unit = max(limit, abs(math.log(floor)) if floor else 0.0)
    units = Quantities(0.0, log_unit, math.exp(limit), 1.0)
    return Reference(evaluate, math.exp(limit), 1.0, units, exponent=limit)


def _hardclamp(low: float, high: float) -> Reference:
    def evaluate(p: Tensor, info: torch.finfo) -> Quantities:
        log_sigma = p.clamp(low, high)
        sigma = log_sigma.exp()
        inside = ((p > low) & (p < high)).double()
        kink = ((p - low).abs() <= info.eps * abs(low)) | ((p - high).abs() <= info.eps * abs(high))
        log_slope = inside.masked_fill(kink, math.nan)
        return Quantities(sigma, log_sigma, sigma * log_slope, log_slope)

    return Reference(evaluate, math.exp(high), 1.0, exponent=max(abs(low), abs(high)))


REFERENCES: dict[str, Callable[..., Reference]] = {
    "vanilla": _exp,
    "naive_exp": _naive_exp,
    "exp": _exp,
    "explin": _explin,
    "upbounded": _upbounded,
    "downbounded": _downbounded,
    "bounded": _bounded,
    "softplus": _softplus,
    "softclamp": _softclamp,
    "hardclamp": _hardclamp,
}
