"""The KL of two normals, accurate relative to its value, from means and whatever their log sigmas are formulas of."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from stable_params.elementwise import Formula, Gradients, Kept, Needed, elementwise
from stable_params.numerics import expm1, expm1_minus_x_and_expm1, log1p_, split_sigma, split_sigma_into


class Factors(NamedTuple):
    """sigma as the product unit exp(exponent) total, where total is 1 + excess; its slope is unit exp(exponent) rise."""

    exponent: Tensor
    excess: Tensor | None = None  # 0 or more; None: 0
    total: Tensor | None = None  # None: 1
    rise: Tensor | None = None  # None: 1
    unit: float | None = None  # None: 1
    bounded: bool = True  # excess is at most 1
    power: Tensor | None = None  # exp(exponent), where it is at hand

    def base(self) -> Tensor:
        """unit exp(exponent), of exponent's shape and dtype; power is overwritten with it."""
        return times(self.exponent.exp() if self.power is None else self.power, self.unit)

    def sigma(self) -> Tensor:
        """sigma, of exponent's shape and dtype; power is overwritten with it."""
        return times(self.base(), self.total)

    def by_raw_(self, by_log_sigma: Tensor) -> Tensor:
        """The derivative by raw of what has the given one by log sigma, whose slope is rise / total; in place."""
        by_raw = times(by_log_sigma, self.rise)
        return by_raw if self.total is None else by_raw.div_(self.total)


class LogSigma(Protocol):
    """log sigma as an elementwise formula of a raw value."""

    def factors(self, raw: Tensor) -> Factors:
        """sigma and its slope, in new tensors but for raw itself; without a graph."""

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        """`grad` times the slope of log sigma, differentiable again."""


class Given:
    """The log sigma that is itself the raw value."""

    def factors(self, raw: Tensor) -> Factors:
        return Factors(raw)

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return grad


def normal_kl(
    loc: Tensor, raw: Tensor, prior_loc: Tensor, prior_raw: Tensor, form: LogSigma, prior_form: LogSigma
) -> Tensor:
    """KL(N(loc, sigma) || N(prior_loc, prior_sigma)) elementwise in nats, of the broadcast shape (eq. 8).

    `form` gives log sigma of `raw`, `prior_form` that of `prior_raw`. With r = log sigma - log prior_sigma and
    x = (loc - prior_loc)/prior_sigma it is (expm1(2r) - 2r)/2 + x^2/2; the derivatives are x/prior_sigma, expm1(2r) and
    their opposites, the last less x^2. The graph keeps the four tensors and the first three derivatives by them: where
    one of these overflows, a gradient of 0 from above makes NaN of it, as in torch's own functions.
    """
    return elementwise(_NormalKL(form, prior_form), *aligned(loc, raw, prior_loc, prior_raw))


class LogSigmaOf(Formula):
    """The log sigma of a form."""

    def __init__(self, form: LogSigma) -> None:
        self.form = form

    def value(self, raw: Tensor) -> Tensor:
        factors = self.form.factors(raw)
        if factors.excess is None:
            return raw.clone()  # autograd takes no argument for a result
        log_sigma = factors.excess.log1p_().add_(factors.exponent)
        return log_sigma if factors.unit is None else log_sigma.add_(math.log(factors.unit))

    def gradients(self, needed: Needed, grad: Tensor, raw: Tensor) -> Gradients:
        return (self.form.log_sigma_gradient(grad, raw),)


class _NormalKL(Formula):
    """Work buffers are reused: fresh memory costs as much as a sum."""

    def __init__(self, form: LogSigma, prior_form: LogSigma) -> None:
        self.form, self.prior_form = form, prior_form

    def value(self, *arguments: Tensor) -> Tensor:
        return self.value_and_kept(*arguments)[0]

    def value_and_kept(self, loc: Tensor, raw: Tensor, prior_loc: Tensor, prior_raw: Tensor) -> tuple[Tensor, Kept]:
        q, p = self.form.factors(raw), self.prior_form.factors(prior_raw)
        log_ratio = _log_ratio(q, p)
        # With u = expm1(r), (expm1(2r) - 2r)/2 is u - r + u^2/2 and expm1(2r) is u (u + 2).
        kl, growth, *buffers = expm1_minus_x_and_expm1(log_ratio)
        _add_half_square(kl, growth, buffers[0])
        by_log_sigma = growth.mul_(torch.add(growth, 2, out=buffers[0]))
        sigma, rest = _split_sigma(p, *buffers)
        shift = torch.sub(loc, prior_loc, out=log_ratio).div_(sigma).mul_(rest)
        by_loc = torch.div(shift, sigma, out=sigma).mul_(rest)
        _add_half_square(kl, shift, rest)
        by_prior_log_sigma = torch.addcmul(by_log_sigma, shift, shift, out=shift)
        return kl, (by_loc, q.by_raw_(by_log_sigma), p.by_raw_(by_prior_log_sigma))

    def gradients(self, needed: Needed, grad: Tensor, *arguments: Tensor) -> Gradients:
        loc, raw, prior_loc, prior_raw = arguments
        prior_log_sigma = elementwise(LogSigmaOf(self.prior_form), prior_raw)
        log_ratio = elementwise(LogSigmaOf(self.form), raw) - prior_log_sigma
        sigma, rest = split_sigma(prior_log_sigma)
        shift = (loc - prior_loc) / sigma * rest
        grad_loc = grad * shift / sigma * rest
        grad_log_sigma = grad * expm1(2 * log_ratio)
        grad_raw = self.form.log_sigma_gradient(grad_log_sigma, raw)
        grad_prior_log_sigma = -(grad_log_sigma + grad * shift * shift)
        return grad_loc, grad_raw, -grad_loc, self.prior_form.log_sigma_gradient(grad_prior_log_sigma, prior_raw)

    def gradients_from_kept(self, needed: Needed, grad: Tensor, arguments: Sequence[Tensor], kept: Kept) -> Gradients:
        by_loc, by_raw, by_prior_raw = kept
        grad_loc = grad * by_loc
        grad_prior_raw = (grad * by_prior_raw).neg_() if needed[3] else None
        return grad_loc, grad * by_raw, -grad_loc, grad_prior_raw


def _log_ratio(q: Factors, p: Factors) -> Tensor:
    """log of q's sigma / p's sigma."""
    log_ratio = q.exponent - p.exponent
    if q.excess is not None and p.excess is not None:
        log_ratio.add_(_log_quotient(q, p))
    elif q.excess is not None:
        log_ratio.add_(q.excess.log1p())
    elif p.excess is not None:
        log_ratio.sub_(p.excess.log1p())
    return log_ratio if q.unit == p.unit else log_ratio.add_(math.log((q.unit or 1) / (p.unit or 1)))


def _log_quotient(q: Factors, p: Factors) -> Tensor:
    """log(q's total / p's), accurate relative to itself where they are close."""
    difference = q.excess - p.excess
    if q.bounded and p.bounded:
        return log1p_(difference.div_(p.total))
    quotient = torch.minimum(q.total, p.total)  # near -1, where the larger one would get it, log1p has lost digits
    return log1p_(torch.div(difference.abs(), quotient, out=quotient)).copysign_(difference)


def _split_sigma(factors: Factors, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(s, t) with sigma = s / t, in the buffers."""
    sigma, rest = split_sigma_into(factors.exponent, first, second)
    return times(times(sigma, factors.total), factors.unit), rest


def _add_half_square(kl: Tensor, x: Tensor, buffer: Tensor) -> None:
    kl.addcmul_(torch.mul(x, 0.5, out=buffer), x)  # halved before it is squared: x^2 overflows sooner


def times(first: Tensor, second: Tensor | float | None) -> Tensor:
    """Their product, in place of the first; None: 1."""
    return first if second is None else first.mul_(second)


def aligned(*tensors: Tensor) -> Sequence[Tensor]:
    """The tensors in one shape and dtype."""
    first = tensors[0]
    if any(tensor.dtype != first.dtype for tensor in tensors):
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
        tensors = tuple(tensor.to(dtype) for tensor in tensors)
    if any(tensor.shape != first.shape for tensor in tensors):
        return torch.broadcast_tensors(*tensors)
    return tensors
