"""expm1(x) - x and the KL of two normals, accurate relative to their values, each as one autograd function."""

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

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
    function = _Expm1MinusX if torch.compiler.is_compiling() else _ForwardModeExpm1MinusX
    return function.apply(x)


def normal_kl(loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor) -> Tensor:
    """KL(N(loc, sigma) || N(prior_loc, prior_sigma)) elementwise in nats, of the broadcast shape (eq. 8).

    With r = log sigma - prior_log_sigma and x = (loc - prior_loc)/prior_sigma it is (expm1(2r) - 2r)/2 + x^2/2, its
    gradient x/prior_sigma, expm1(2r) and their opposites, the last less x^2. Nothing but the arguments is saved.
    """
    function = _NormalKL if torch.compiler.is_compiling() else _ForwardModeNormalKL
    return function.apply(*_aligned(loc, log_sigma, prior_loc, prior_log_sigma))


def standardized(delta: Tensor, log_sigma: Tensor) -> Tensor:
    """delta / sigma, to 2 ULP also where sigma or 1/sigma is out of range but the quotient is not."""
    sigma, rest = _split_sigma(log_sigma)
    return delta / sigma * rest


def _split_sigma(log_sigma: Tensor, *buffers: Tensor) -> tuple[Tensor, Tensor]:
    """(s, t) with sigma = s / t: t is exactly 1 while sigma is a normal number, which s always is; in two buffers."""
    in_range = math.floor(-math.log(torch.finfo(log_sigma.dtype).tiny))
    if not buffers:
        near = log_sigma.clamp(-in_range, in_range)
        return near.exp(), torch.exp(near - log_sigma)
    near = torch.clamp(log_sigma, -in_range, in_range, out=buffers[0])
    rest = torch.sub(near, log_sigma, out=buffers[1]).exp_()
    return near.exp_(), rest


def _aligned(*tensors: Tensor) -> Sequence[Tensor]:
    """The tensors in one shape and dtype."""
    first = tensors[0]
    if any(tensor.dtype != first.dtype for tensor in tensors):
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
        tensors = tuple(tensor.to(dtype) for tensor in tensors)
    if any(tensor.shape != first.shape for tensor in tensors):
        return torch.broadcast_tensors(*tensors)
    return tensors


def series_terms(dtype: torch.dtype) -> int:
    """Factors of the nested series of expm1(x) - x: the first one left out is below half an ULP on the interval."""
    return 14 if dtype == torch.float64 else 7


def _expm1_minus_x(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x^2/2 (1 + x/3 (1 + x/4 (1 + ...))) at the nearest point of the interval plus what lies beyond; 2 buffers."""
    inside = x.clamp(LOWER, UPPER)
    last = series_terms(x.dtype) + 2
    nested = torch.addcmul(inside, inside, inside, value=1 / last)
    for divisor in range(last - 1, 2, -1):
        torch.addcmul(inside, inside, nested, value=1 / divisor, out=nested)
    beyond = x.exp().sub_(LEVEL).sub_(x).relu_()
    return beyond.addcmul_(inside, nested, value=0.5), nested, inside


class _Expm1MinusX(Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _expm1_minus_x(x)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _expm1(*ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return _ForwardModeExpm1MinusX.apply(x), in_dims[0]


class _ForwardModeExpm1MinusX(_Expm1MinusX):
    """The same with a forward-mode derivative, which torch.compile refuses to trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * _expm1(*ctx.saved_tensors)


def _expm1(x: Tensor) -> Tensor:
    """expm1 whose derivative is exp x; torch's own is its result plus 1, which is 0 below -17 in float32."""
    return torch.expm1(x) if torch.compiler.is_compiling() else _Expm1.apply(x)


class _Expm1(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.expm1(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0].exp()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * ctx.saved_tensors[0].exp()


class _NormalKL(Function):
    """The KL of four tensors of one shape and dtype. Work buffers are reused: fresh memory costs as much as a sum."""

    @staticmethod
    def forward(loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor) -> Tensor:
        # With e = expm1(r) - r, (expm1(2r) - 2r)/2 = e + (r + e)^2/2. Halved before squaring: exp(2r) overflows sooner.
        log_ratio = log_sigma - prior_log_sigma
        kl, *buffers = _expm1_minus_x(log_ratio)
        excess = log_ratio.add_(kl)
        kl.addcmul_(torch.mul(excess, 0.5, out=buffers[0]), excess)
        sigma, rest = _split_sigma(prior_log_sigma, *buffers)
        shift = torch.sub(loc, prior_loc, out=excess).div_(sigma).mul_(rest)
        return kl.addcmul_(torch.mul(shift, 0.5, out=sigma), shift)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            return _kl_gradients(grad, *ctx.saved_tensors)
        return _kl_gradients_in_place(grad, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Tensor) -> tuple[Tensor, int]:
        return _ForwardModeNormalKL.apply(*map(partial(_batch_first, info.batch_size), arguments, in_dims)), 0


class _ForwardModeNormalKL(_NormalKL):
    """The same with a forward-mode derivative, which torch.compile refuses to trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        gradients = _kl_gradients(torch.ones_like(ctx.saved_tensors[0]), *ctx.saved_tensors)
        return sum(map(torch.mul, gradients, tangents))


def _kl_gradients(grad: Tensor, loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor):
    """grad times the KL's derivative by each argument, differentiable again."""
    sigma, rest = _split_sigma(prior_log_sigma)
    shift = (loc - prior_loc) / sigma * rest
    grad_loc = grad * shift / sigma * rest
    grad_log_sigma = grad * _expm1(2 * (log_sigma - prior_log_sigma))
    return grad_loc, grad_log_sigma, -grad_loc, -(grad_log_sigma + grad * shift * shift)


def _kl_gradients_in_place(grad: Tensor, loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor):
    """The same without a graph. Only grad may be batched (by vmap), so nothing unbatched is overwritten with it."""
    # expm1(2r) as tanh(r) (1 + exp(2r)): on a CPU torch's expm1 costs as much as five such operations.
    log_ratio = log_sigma - prior_log_sigma
    tanh = log_ratio.tanh()
    grad_log_sigma = (grad * tanh).mul_(log_ratio.mul_(2).exp_().add_(1))
    sigma, rest = _split_sigma(prior_log_sigma, log_ratio, tanh)
    shift = (loc - prior_loc).div_(sigma).mul_(rest)
    grad_shift = grad * shift
    grad_prior_log_sigma = torch.addcmul(grad_log_sigma, grad_shift, shift).neg_()
    grad_loc = grad_shift.div_(sigma).mul_(rest)
    return grad_loc, grad_log_sigma, -grad_loc, grad_prior_log_sigma


def _batch_first(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
