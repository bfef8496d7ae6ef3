"""expm1(x) - x, accurate relative to its value, and quotients by a sigma that may be out of range."""

import math

import torch
from torch import Tensor

from stable_params.elementwise import Formula, Gradients, Needed, elementwise

# expm1(x) - x is summed as its Taylor series between the two points where exp(x) is LOWEST and HIGHEST. Beyond them what
# exp(x) and x exceed their values there by is added, 0 in between: no mask, nothing to select. What that errs by is mostly
# exp(x)'s half ULP, 2^-24 (6e-8) near UPPER: an ULP of the KL, which is above 1/2 from there on; below LOWER exp(x) is under
# 1/2 and the KL above 1/4. Both values have eleven bits, so that float16 holds them, and their logarithms are within 2% of an
# ULP of a float32.
LOWEST, HIGHEST = 511 / 1024, 1827 / 1024
LOWER, UPPER = math.log(LOWEST), math.log(HIGHEST)


def expm1_minus_x(x: Tensor) -> Tensor:
    """expm1(x) - x elementwise, for every x accurate relative to its value, x^2/2 + x^3/6 + ... near 0.

    The derivative is expm1(x), the second exp(x), each as accurate as the value. Shape and dtype are x's.
    x = -inf gives +inf, x = +inf NaN (inf - inf), NaN is NaN.
    """
    return elementwise(_Expm1MinusX(), x)


def expm1(x: Tensor) -> Tensor:
    """expm1 whose derivative is exp x; torch's own is its result plus 1, which is 0 below -17 in float32."""
    return elementwise(_Expm1(), x)


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
    """The same, without a graph, in two buffers; beyond that range off by what half an ULP of log_sigma causes."""
    in_range = _in_range(log_sigma.dtype)
    if torch.compiler.is_compiling():
        return _split_sigma_by_selection(log_sigma, float(in_range))
    near = torch.clamp(log_sigma, -in_range, in_range, out=first)
    rest = exp_of_minus_(torch.sub(log_sigma, near, out=second))
    return near.exp_(), rest


def _split_sigma_by_selection(log_sigma: Tensor, in_range: float) -> tuple[Tensor, Tensor]:
    # Within compiled code a selection is next to nothing; an eager torch.where takes as long as five exponentials.
    low, high = log_sigma < -in_range, log_sigma > in_range
    offset = torch.where(low, in_range, torch.where(high, -in_range, torch.zeros_like(log_sigma)))
    rest = torch.where(low, math.exp(in_range), torch.where(high, math.exp(-in_range), torch.ones_like(log_sigma)))
    return (log_sigma + offset).exp(), rest


def _in_range(dtype: torch.dtype) -> int:
    return math.floor(-math.log(torch.finfo(dtype).tiny))


def series_terms(dtype: torch.dtype) -> int:
    """Factors of the nested series of expm1(x) - x: the first one left out is below half an ULP on the interval."""
    return 14 if dtype == torch.float64 else 7


def expm1_minus_x_and_expm1(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """expm1(x) - x and expm1(x), each accurate relative to itself, and two buffers; computed without a graph.

    With c the nearest point of the interval, expm1(x) is c + v where v = c^2/2 (1 + c/3 (1 + c/4 (1 + ...))) + exp(x) -
    exp(c), and expm1(x) - x is v - (x - c).
    """
    inside = x.clamp(LOWER, UPPER)
    last = series_terms(x.dtype) + 2
    nested = torch.addcmul(inside, inside, inside, value=1 / last)
    for divisor in range(last - 1, 2, -1):
        torch.addcmul(inside, inside, nested, value=1 / divisor, out=nested)
    beyond = x.exp()
    buffer = beyond.clamp(LOWEST, HIGHEST)
    beyond.sub_(buffer).addcmul_(inside, nested, value=0.5)
    remainder = torch.sub(x, inside, out=nested)
    return torch.sub(beyond, remainder, out=remainder), inside.add_(beyond), beyond, buffer


def log1p_(x: Tensor) -> Tensor:
    """log1p in place, for x from -1/2 on."""
    if not (torch.compiler.is_compiling() and x.is_cpu):
        return x.log1p_()
    # Compiled for a CPU, log1p takes the time of three exponentials, log that of two. What 1 + x rounds away is below half
    # an ULP of the result from 2^30 on; an infinite x must not be subtracted from itself.
    total = x + 1
    lost = torch.where(x < 2**30, x - (total - 1), 0.0)
    return total.log() + lost / total


def exp_of_minus_(x: Tensor) -> Tensor:
    """exp(-x) in place, in which x is off by half an ULP of it: a third of exp's time on a CPU. Exact at 0."""
    return x.mul_(-1.4426950408889634).exp2_()  # -log2(e); by a name torch.compile would take it for a variable


class _Expm1MinusX(Formula):
    def value(self, x: Tensor) -> Tensor:
        return expm1_minus_x_and_expm1(x)[0]

    def gradients(self, needed: Needed, grad: Tensor, x: Tensor) -> Gradients:
        return (grad * expm1(x),)


class _Expm1(Formula):
    def value(self, x: Tensor) -> Tensor:
        # Compiled for a CPU, torch.expm1 is exp(x) - 1, which near 0 has no correct digit.
        return expm1_minus_x_and_expm1(x)[1] if torch.compiler.is_compiling() else torch.expm1(x)

    def gradients(self, needed: Needed, grad: Tensor, x: Tensor) -> Gradients:
        return (grad * x.exp(),)
