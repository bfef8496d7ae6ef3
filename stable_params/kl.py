"""The KL of two normals, accurate relative to its value, from means and whatever their log sigmas are formulas of."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from stable_params.elementwise import Formula, Gradients, Needed, elementwise
from stable_params.numerics import expm1_minus_x_and_buffers, expm1_of_twice, split_sigma, split_sigma_into


class LogSigma(Protocol):
    """log sigma as an elementwise formula of a raw value."""

    def log_sigma(self, raw: Tensor) -> Tensor:
        """log sigma, of raw's shape and dtype."""

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        """`grad` times the derivative at raw, differentiable again."""

    def log_sigma_and_gradient(self, raw: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """log_sigma, and log_sigma_gradient at raw as a function of grad, which share what they have in common."""


class Given:
    """The log sigma that is itself the raw value."""

    def log_sigma(self, raw: Tensor) -> Tensor:
        return raw

    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        return grad

    def log_sigma_and_gradient(self, raw: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return raw, lambda grad: grad


def normal_kl(
    loc: Tensor, raw: Tensor, prior_loc: Tensor, prior_raw: Tensor, form: LogSigma, prior_form: LogSigma
) -> Tensor:
    """KL(N(loc, sigma) || N(prior_loc, prior_sigma)) elementwise in nats, of the broadcast shape (eq. 8).

    `form` gives log sigma of `raw`, `prior_form` that of `prior_raw`. With r = log sigma - log prior_sigma and
    x = (loc - prior_loc)/prior_sigma it is (expm1(2r) - 2r)/2 + x^2/2; the derivatives are x/prior_sigma, expm1(2r) and
    their opposites, the last less x^2. The graph keeps the four tensors alone.
    """
    return elementwise(_NormalKL(form, prior_form), *aligned(loc, raw, prior_loc, prior_raw))


class LogSigmaOf(Formula):
    """The log sigma of a form."""

    def __init__(self, form: LogSigma) -> None:
        self.form = form

    def value(self, raw: Tensor) -> Tensor:
        log_sigma = self.form.log_sigma(raw)
        return log_sigma.clone() if log_sigma is raw else log_sigma  # autograd takes no argument for a result

    def gradients(self, needed: Needed, grad: Tensor, raw: Tensor) -> Gradients:
        return (self.form.log_sigma_gradient(grad, raw),)


class _NormalKL(Formula):
    """Work buffers are reused: fresh memory costs as much as a sum."""

    def __init__(self, form: LogSigma, prior_form: LogSigma) -> None:
        self.form, self.prior_form = form, prior_form

    def value(self, loc: Tensor, raw: Tensor, prior_loc: Tensor, prior_raw: Tensor) -> Tensor:
        # With e = expm1(r) - r, (expm1(2r) - 2r)/2 = e + (r + e)^2/2. Halved before squaring: exp(2r) overflows sooner.
        prior_log_sigma = self.prior_form.log_sigma(prior_raw)
        log_ratio = self.form.log_sigma(raw) - prior_log_sigma
        kl, *buffers = expm1_minus_x_and_buffers(log_ratio)
        excess = log_ratio.add_(kl)
        kl.addcmul_(torch.mul(excess, 0.5, out=buffers[0]), excess)
        sigma, rest = split_sigma_into(prior_log_sigma, *buffers)
        shift = torch.sub(loc, prior_loc, out=excess).div_(sigma).mul_(rest)
        return kl.addcmul_(torch.mul(shift, 0.5, out=sigma), shift)

    def gradients(self, needed: Needed, grad: Tensor, *arguments: Tensor) -> Gradients:
        loc, raw, prior_loc, prior_raw = arguments
        prior_log_sigma = elementwise(LogSigmaOf(self.prior_form), prior_raw)
        log_ratio = elementwise(LogSigmaOf(self.form), raw) - prior_log_sigma
        sigma, rest = split_sigma(prior_log_sigma)
        shift = (loc - prior_loc) / sigma * rest
        grad_loc = grad * shift / sigma * rest
        grad_log_sigma = grad * expm1_of_twice(log_ratio)
        grad_raw = self.form.log_sigma_gradient(grad_log_sigma, raw)
        grad_prior_log_sigma = -(grad_log_sigma + grad * shift * shift)
        return grad_loc, grad_raw, -grad_loc, self.prior_form.log_sigma_gradient(grad_prior_log_sigma, prior_raw)

    def gradients_without_graph(self, needed: Needed, grad: Tensor, *arguments: Tensor) -> Gradients:
        loc, raw, prior_loc, prior_raw = arguments
        prior_log_sigma, by_prior_raw = self.prior_form.log_sigma_and_gradient(prior_raw)
        log_sigma, by_raw = self.form.log_sigma_and_gradient(raw)
        log_ratio = log_sigma - prior_log_sigma
        grad_log_sigma = grad * log_ratio.mul_(2).expm1_()
        sigma, rest = split_sigma_into(prior_log_sigma, log_ratio, torch.empty_like(log_ratio))
        shift = (loc - prior_loc).div_(sigma).mul_(rest)
        grad_shift = grad * shift
        grad_prior_raw = None
        if needed[3]:
            grad_prior_raw = by_prior_raw(torch.addcmul(grad_log_sigma, grad_shift, shift).neg_())
        grad_loc = grad_shift.div_(sigma).mul_(rest)
        return grad_loc, by_raw(grad_log_sigma), -grad_loc, grad_prior_raw


def aligned(*tensors: Tensor) -> Sequence[Tensor]:
    """The tensors in one shape and dtype."""
    first = tensors[0]
    if any(tensor.dtype != first.dtype for tensor in tensors):
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
        tensors = tuple(tensor.to(dtype) for tensor in tensors)
    if any(tensor.shape != first.shape for tensor in tensors):
        return torch.broadcast_tensors(*tensors)
    return tensors
