"""Elementwise formulas with hand-written derivatives as autograd functions."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Needed = Sequence[bool]  # for each argument
Gradients = tuple[Tensor | None, ...]
Kept = tuple[Tensor, ...]


class Formula(ABC):
    """A value computed elementwise from tensors of one shape and dtype, and its derivatives.

    The graph keeps the arguments, from which gradients that are differentiated again start, and what the formula wants
    kept, from which all others do: a stored tensor costs as much time as one addition, an exponential as much as six.
    """

    def value_and_kept(self, *arguments: Tensor) -> tuple[Tensor, Kept]:
        """The value and new tensors for gradients_from_kept; computed without a graph."""
        return self.value(*arguments), ()

    @abstractmethod
    def value(self, *arguments: Tensor) -> Tensor:
        """The result, of the arguments' shape and dtype; computed without a graph, so it may reuse what it made."""

    @abstractmethod
    def gradients(self, needed: Needed, grad: Tensor, *arguments: Tensor) -> Gradients:
        """`grad` times the derivative by each argument, in operations that autograd can differentiate again.

        Where `needed` is False, None will do.
        """

    def gradients_from_kept(self, needed: Needed, grad: Tensor, arguments: Sequence[Tensor], kept: Kept) -> Gradients:
        """The same for once; only grad may be batched by vmap, so nothing unbatched may be overwritten with it."""
        return self.gradients(needed, grad, *arguments)


def elementwise(formula: Formula, *arguments: Tensor) -> Tensor:
    """formula.value(*arguments), differentiated by formula.gradients; double backward, forward mode, vmap, compile."""
    if not torch.compiler.is_compiling():
        return _ForwardModeElementwise.apply(formula, *arguments)[0]
    arguments = [argument.contiguous() for argument in arguments]  # torch.compile wants it of the buffers made like them
    if torch.is_grad_enabled() and any(argument.requires_grad for argument in arguments):
        return _Elementwise.apply(formula, *arguments)[0]
    return formula.value(*arguments)  # torch.compile cannot trace a forward of *arguments where nothing needs a gradient


class _Elementwise(Function):
    @staticmethod
    def forward(formula: Formula, *arguments: Tensor) -> tuple[Tensor, ...]:
        value, kept = formula.value_and_kept(*arguments)
        return value, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.formula, *arguments = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arguments, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        count = len(ctx.needs_input_grad) - 1
        saved = ctx.saved_tensors  # once: checkpointing hands each of them out once
        arguments, kept = saved[:count], saved[count:]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return None, *ctx.formula.gradients(ctx.needs_input_grad[1:], grad, *arguments)
        return None, *ctx.formula.gradients_from_kept(ctx.needs_input_grad[1:], grad, arguments, kept)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], formula: Formula, *arguments: Tensor
    ) -> tuple[tuple[Tensor, ...], int]:
        batched = map(partial(_batch_first, info.batch_size), arguments, in_dims[1:])
        return _ForwardModeElementwise.apply(formula, *batched), 0


class _ForwardModeElementwise(_Elementwise):
    """The same with a forward-mode derivative, which torch.compile refuses to trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _Elementwise.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[1:])
        ctx.kept = len(output) - 1

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        arguments = ctx.saved_tensors[: len(tangents)]
        slopes = ctx.formula.gradients((True,) * len(tangents), torch.ones_like(arguments[0]), *arguments)
        terms = [slope * tangent for slope, tangent in zip(slopes, tangents) if tangent is not None]
        return sum(terms), *[None] * ctx.kept


def _batch_first(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


# Function.apply looks up the signature of forward each time; stated here, it need not be made anew.
_Elementwise.forward.__signature__ = inspect.signature(_Elementwise.forward)
