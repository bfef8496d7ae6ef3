"""Parameterizations that state their slopes, from which a KL and a draw have their derivatives with their values."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from stable_params.elementwise import Formula, Gradients, Kept, Needed, elementwise
from stable_params.kl import Factors, LogSigma, LogSigmaOf, aligned, times
from stable_params.normal import Normal
from stable_params.parameterization import Parameterization, require_floating
from stable_params.scale import Scale


class ClosedForm(Parameterization):
    """sigma and log sigma as elementwise formulas with their slopes.

    `factors` works in place on what it made, so that autograd cannot go through it: to differentiate, call the
    parameterization. The gradients are `grad` times the slope, differentiable again.
    """

    @abstractmethod
    def factors(self, raw: Tensor) -> Factors:
        """sigma as a product, with its slope."""

    @abstractmethod
    def log_sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        """grad times log sigma's slope."""

    @abstractmethod
    def sigma_gradient(self, grad: Tensor, raw: Tensor) -> Tensor:
        """grad times sigma's slope."""

    def normal(self, loc: Tensor, raw: Tensor) -> "RawNormal":
        """The normal distribution with mean `loc` and the scale of `raw`; their shapes must broadcast."""
        require_floating(raw)
        self._show_constants_to_compiler()
        return RawNormal(loc, raw, self)

    def _show_constants_to_compiler(self) -> None:
        # A float that torch.compile first meets inside an autograd function it takes for that function's alone.
        if torch.compiler.is_compiling():
            for name in self.__match_args__:
                getattr(self, name) * 1

    def _scale(self, raw: Tensor) -> Scale:
        self._show_constants_to_compiler()
        return Scale(elementwise(_Sigma(self), raw), elementwise(LogSigmaOf(self), raw))


class RawNormal(Normal):
    """The Normal of a ClosedForm, which computes sigma and log sigma where and when they are needed, from raw.

    Its `kl` and `rsample` are Normal's in result; for the backward pass they keep raw and their own derivatives, three
    tensors and one, in place of sigma, log sigma and what lies between.
    """

    def __init__(self, loc: Tensor, raw: Tensor, parameterization: ClosedForm) -> None:
        vars(self).update(loc=loc, raw=raw, parameterization=parameterization)

    @property
    def scale(self) -> Scale:
        """The Scale of raw, computed once."""
        known = vars(self)  # not cached_property, whose lock torch.compile cannot trace
        if "known_scale" not in known:
            known["known_scale"] = self.parameterization(self.raw)
        return known["known_scale"]

    def tempered(self, temperature: float) -> Normal:
        """The same mean with sigma multiplied by `temperature`; ValueError unless that is finite and above 0."""
        return Normal(self.loc, self.scale.tempered(temperature))

    def detach(self) -> Self:
        """The same tensors without their graph; nothing is copied."""
        return RawNormal(self.loc.detach(), self.raw.detach(), self.parameterization)

    def _draw(self, eps: Tensor) -> Tensor:
        return elementwise(_Draw(self.parameterization), *aligned(self.loc, self.raw, eps))

    def _log_sigma_formula(self) -> tuple[Tensor, LogSigma]:
        return self.raw, self.parameterization


class _Sigma(Formula):
    def __init__(self, parameterization: ClosedForm) -> None:
        self.parameterization = parameterization

    def value(self, raw: Tensor) -> Tensor:
        return self.parameterization.factors(raw).sigma()

    def gradients(self, needed: Needed, grad: Tensor, raw: Tensor) -> Gradients:
        return (self.parameterization.sigma_gradient(grad, raw),)


class _Draw(Formula):
    def __init__(self, parameterization: ClosedForm) -> None:
        self.parameterization = parameterization

    def value(self, *arguments: Tensor) -> Tensor:
        return self.value_and_kept(*arguments)[0]

    def value_and_kept(self, loc: Tensor, raw: Tensor, eps: Tensor) -> tuple[Tensor, Kept]:
        factors = self.parameterization.factors(raw)
        scaled = factors.base().mul_(eps)
        spread = scaled if factors.total is None else scaled * factors.total
        return spread + loc, (times(scaled, factors.rise),)

    def gradients_from_kept(self, needed: Needed, grad: Tensor, arguments: Sequence[Tensor], kept: Kept) -> Gradients:
        grad_eps = grad * _Sigma(self.parameterization).value(arguments[1]) if needed[2] else None
        return grad, grad * kept[0], grad_eps

    def gradients(self, needed: Needed, grad: Tensor, loc: Tensor, raw: Tensor, eps: Tensor) -> Gradients:
        grad_raw = self.parameterization.sigma_gradient(grad * eps, raw)
        grad_eps = grad * elementwise(_Sigma(self.parameterization), raw) if needed[2] else None
        return grad, grad_raw, grad_eps
