"""What every scale parameterization has in common: from raw to Scale, to Normal and to its flag."""

import math
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from stable_params.normal import Normal
from stable_params.scale import Scale


@dataclass(frozen=True)
class Parameterization(ABC):
    """Maps an unconstrained network output `raw` to a Scale, elementwise.

    A subclass is a frozen dataclass: its fields are its constants, in the order in which the flag spells them, and
    `name` is the part of the flag before them. Equal constants make equal objects.
    """

    name: ClassVar[str]

    def __call__(self, raw: Tensor) -> Scale:
        """Scale of raw's shape, dtype and device. NaN in raw is NaN in both fields.

        Raises TypeError when raw is not a floating-point tensor.
        """
        require_floating(raw)
        return self._scale(raw)

    def normal(self, loc: Tensor, raw: Tensor) -> Normal:
        """The normal distribution with mean `loc` and the scale of `raw`; their shapes must broadcast."""
        return Normal(loc, self(raw))

    @property
    def flag(self) -> str:
        """The command-line spelling: the name, then the constants joined by underscores (`bounded0.1_256`)."""
        return self.name + "_".join(_shortest(value) for value in astuple(self))

    @abstractmethod
    def _scale(self, raw: Tensor) -> Scale:
        """The Scale of a raw that is known to be a floating-point tensor."""


def require_floating(raw: Tensor) -> None:
    """Raises TypeError unless raw is a floating-point tensor."""
    if not isinstance(raw, Tensor):
        raise TypeError(f"raw must be a floating-point tensor, got {type(raw).__name__}")
    if not torch.is_floating_point(raw):
        raise TypeError(f"raw must be a floating-point tensor, got a tensor of {raw.dtype}")


def require_positive(name: str, value: float) -> None:
    """Raises TypeError unless the constant `name` is a real number, ValueError unless it is finite and above 0."""
    _require_number(name, value)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value!r}")


def require_finite(name: str, value: float) -> None:
    """Raises TypeError unless the constant `name` is a real number, ValueError unless it is finite."""
    _require_number(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def _require_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def _shortest(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
