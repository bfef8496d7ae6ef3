"""What an expression in a KL or a draw can be worth, and the elementwise operations on such values."""

import math
import operator
from dataclasses import dataclass


@dataclass(eq=False)
class Tensor:
    """One element of a tensor. Several names can share it, and all of them see an operation in place."""

    value: float


@dataclass(frozen=True)
class Opaque:
    """A value that no number depends on; `what` is "shape", "dtype" or "device"."""

    what: str


class Unknown(Exception):
    """The code has a construct that cannot be evaluated; `line` counts from the def, and 0 means no line is known."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(f"{what} (line {line})" if line else what)
        self.what, self.line = what, line


OPERATIONS = {name: getattr(math, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "pow")}
OPERATIONS |= {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
OPERATIONS |= {"neg": operator.neg, "square": lambda x: x * x, "reciprocal": lambda x: 1 / x}


def compute(name: str, *arguments: object) -> Tensor | float:
    """The value of an operation, NaN outside its domain; a tensor if one argument is a tensor."""
    try:
        result = OPERATIONS[name](*map(number, arguments))
    except TypeError:
        raise Unknown(f"calls {name} with other arguments than it has") from None
    except (ArithmeticError, ValueError):
        result = math.nan
    return Tensor(result) if any(isinstance(argument, Tensor) for argument in arguments) else result


def number(value: object) -> float:
    """The number in a tensor or a plain number; raises Unknown for anything else."""
    if isinstance(value, Tensor):
        return value.value
    if not isinstance(value, int | float):
        raise Unknown("computes with something that is not a number")
    try:
        return float(value)
    except OverflowError:
        raise Unknown("has a number that no float holds") from None
