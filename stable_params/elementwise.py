"""Elementwise formulas with hand-written derivatives as autograd functions, which save their arguments alone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Needed = Sequence[bool]  # for each argument
Gradients = tuple[Tensor | None, ...]


class Formula(ABC):
    """A value computed elementwise from tensors of one shape and dtype, and its derivatives.

    What autograd would keep of the steps between costs memory, and time to fill it: as much for each kept tensor as
    several operations. So only the arguments are kept, and the gradients start from them.
    """

    @abstractmethod
    def value(self, *arguments: Tensor) -> Tensor:
        """The result, of the arguments' shape and dtype; computed without a graph, so it may reuse what it made."""

    @abstractmethod
    def gradients(self, needed: Needed, grad: Tensor, *arguments: Tensor) -> Gradients:
        """`grad` times the derivative by each argument, in operations that autograd can differentiate again.

        Where `needed` is False, None will do.
        """

    def gradients_without_graph(self, needed: Needed, grad: Tensor, *arguments: Tensor) -> Gradients:
        """The same for once; only grad may be batched by vmap, so nothing unbatched may be overwritten with it."""
        return self.gradients(needed, grad, *arguments)


def elementwise(formula: Formula, *arguments: Tensor) -> Tensor:
    """formula.value(*arguments), differentiated by formula.gradients; double backward, forward mode, vmap, compile."""
    if not torch.compiler.is_compiling():
        return _ForwardModeElementwise.apply(formula, *arguments)
    if torch.is_grad_enabled() and any(argument.requires_grad for argument in arguments):
        return _Elementwise.apply(formula, *arguments)
    return formula.value(*arguments)  # torch.compile cannot trace a forward of *arguments where nothing needs a gradient


class _Elementwise(Function):
    @staticmethod
    def forward(formula: Formula, *arguments: Tensor) -> Tensor:
        return formula.value(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.formula, *arguments = inputs
        ctx.save_for_backward(*arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        once = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        gradients = ctx.formula.gradients_without_graph if once else ctx.formula.gradients
        return None, *gradients(ctx.needs_input_grad[1:], grad, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], formula: Formula, *arguments: Tensor) -> tuple[Tensor, int]:
        batched = map(partial(_batch_first, info.batch_size), arguments, in_dims[1:])
        return _ForwardModeElementwise.apply(formula, *batched), 0


class _ForwardModeElementwise(_Elementwise):
    """The same with a forward-mode derivative, which torch.compile refuses to trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Elementwise.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor) -> Tensor:
        one, needed = torch.ones_like(ctx.saved_tensors[0]), (True,) * len(tangents)
        return sum(map(torch.mul, ctx.formula.gradients(needed, one, *ctx.saved_tensors), tangents))


def _batch_first(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
