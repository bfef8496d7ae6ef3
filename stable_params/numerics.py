"""expm1(x) - x, accurate relative to its value, and quotients by a sigma that may be out of range."""

import math

import torch
from torch import Tensor

from stable_params.elementwise import Formula, Gradients, Needed, elementwise

# expm1(x) - x is summed as its Taylor series between the two points where exp(x) - x reaches LEVEL. It is convex with
# its minimum at 0, so beyond them it is what the series gives at the end of the interval plus relu(exp(x) - LEVEL - x):
# no mask, nothing to select. What the direct form errs by is mostly exp(x)'s half ULP, 2^-24 (6e-8) near UPPER: an ULP
# of the KL, which is above 1/2 from there on; below LOWER exp(x) is under 1/2 and the KL above 1/4.
# LEVEL has eleven bits, so that float16 holds it, and of those it is the one whose two ends are nearest to float32.
LEVEL = 1234 / 1024
LOWER, UPPER = -0.7167330956991299, 0.5787765969667715


def expm1_minus_x(x: Tensor) -> Tensor:
    """expm1(x) - x elementwise, for every x accurate relative to its value, x^2/2 + x^3/6 + ... near 0.

    The derivative is expm1(x), the second exp(x), each as accurate as the value. Shape and dtype are x's.
    x = -inf gives +inf, x = +inf NaN (inf - inf), NaN is NaN.
    """
    return elementwise(_Expm1MinusX(), x)


def expm1(x: Tensor) -> Tensor:
    """expm1 whose derivative is exp x; torch's own is its result plus 1, which is 0 below -17 in float32."""
    if not torch.compiler.is_compiling():
        return elementwise(_Expm1(), x)
    # Compiled for a CPU, torch.expm1 is exp(x) - 1, which near 0 has no correct digit.
    return torch.where(x.abs() < UPPER, x + expm1_minus_x_and_buffers(x)[0], x.exp() - 1)


def expm1_of_twice(x: Tensor) -> Tensor:
    """expm1(2x), from what compiled code has of expm1(x) where that has computed expm1(x) - x already."""
    if not torch.compiler.is_compiling():
        return expm1(2 * x)
    half = expm1(x)
    return half * (half + 2)


def standardized(delta: Tensor, log_sigma: Tensor) -> Tensor:
    """delta / sigma, to 2 ULP also where sigma or 1/sigma is out of range but the quotient is not."""
    sigma, rest = split_sigma(log_sigma)
    return delta / sigma * rest


def split_sigma(log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(s, t) with sigma = s / t: t is exactly 1 while sigma is a normal number, which s always is."""
    in_range = _in_range(log_sigma.dtype)
    near = log_sigma.clamp(-in_range, in_range)
    return near.exp(), torch.exp(near - log_sigma)


def split_sigma_into(log_sigma: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The same in two buffers, without a graph."""
    in_range = _in_range(log_sigma.dtype)
    near = torch.clamp(log_sigma, -in_range, in_range, out=first)
    rest = torch.sub(near, log_sigma, out=second).exp_()
    return near.exp_(), rest


def _in_range(dtype: torch.dtype) -> int:
    return math.floor(-math.log(torch.finfo(dtype).tiny))


def series_terms(dtype: torch.dtype) -> int:
    """Factors of the nested series of expm1(x) - x: the first one left out is below half an ULP on the interval."""
    return 14 if dtype == torch.float64 else 7


def expm1_minus_x_and_buffers(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x^2/2 (1 + x/3 (1 + x/4 (1 + ...))) at the nearest point of the interval plus what lies beyond; 2 buffers."""
    inside = x.clamp(LOWER, UPPER)
    last = series_terms(x.dtype) + 2
    nested = torch.addcmul(inside, inside, inside, value=1 / last)
    for divisor in range(last - 1, 2, -1):
        torch.addcmul(inside, inside, nested, value=1 / divisor, out=nested)
    beyond = x.exp().sub_(LEVEL).sub_(x).relu_()
    return beyond.addcmul_(inside, nested, value=0.5), nested, inside


class _Expm1MinusX(Formula):
    def value(self, x: Tensor) -> Tensor:
        return expm1_minus_x_and_buffers(x)[0]

    def gradients(self, needed: Needed, grad: Tensor, x: Tensor) -> Gradients:
        return (grad * expm1(x),)


class _Expm1(Formula):
    def value(self, x: Tensor) -> Tensor:
        return torch.expm1(x)

    def gradients(self, needed: Needed, grad: Tensor, x: Tensor) -> Gradients:
        return (grad * x.exp(),)
