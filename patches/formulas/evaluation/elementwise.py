"""Elementwise operations by the names that torch, numpy and math give them, on floats."""

import ast
import math
from collections.abc import Callable, Mapping, Sequence

from patches.formulas.evaluation.values import Tensor, Unknown, number

OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
CONSTANTS = {"pi": math.pi, "e": math.e}


def _unary(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda input: function(input)  # keyword arguments go by torch's names


def _add(input: float, other: float, alpha: float = 1.0) -> float:
    return input + alpha * other


def _sub(input: float, other: float, alpha: float = 1.0) -> float:
    return input - alpha * other


def _mul(input: float, other: float) -> float:
    return input * other


def _div(input: float, other: float) -> float:
    return input / other


def _pow(input: float, exponent: float) -> float:
    return math.pow(input, exponent)


def _addcmul(input: float, tensor1: float, tensor2: float, value: float = 1.0) -> float:
    return input + value * tensor1 * tensor2


def _addcdiv(input: float, tensor1: float, tensor2: float, value: float = 1.0) -> float:
    return input + value * tensor1 / tensor2


NAMED = {"add": _add, "sub": _sub, "subtract": _sub, "mul": _mul, "multiply": _mul, "pow": _pow, "power": _pow}
NAMED |= {"div": _div, "divide": _div, "true_divide": _div, "addcmul": _addcmul, "addcdiv": _addcdiv}
MATH = ("exp", "expm1", "exp2", "log", "log1p", "log2", "sqrt", "tanh")
NAMED |= {name: _unary(getattr(math, name)) for name in MATH}
NAMED |= {name: _unary(lambda x: -x) for name in ("neg", "negative")}
NAMED |= {
    "square": _unary(lambda x: x * x),
    "reciprocal": _unary(lambda x: 1 / x),
    "rsqrt": _unary(lambda x: 1 / math.sqrt(x)),
    "sigmoid": _unary(lambda x: 1 / (1 + math.exp(-x))),
}


def compute(name: str, arguments: Sequence[object], keywords: Mapping[str, object] = {}) -> Tensor | float:
    """The operation's value, NaN outside its domain; a tensor if an argument is. Unknown for arguments it has not."""
    values = [number(argument) for argument in arguments]
    named = {key: number(argument) for key, argument in keywords.items()}
    try:
        result = NAMED[name](*values, **named)
    except TypeError:
        raise Unknown(f"gives {name} arguments that it is not known to have") from None
    except (ArithmeticError, ValueError):
        result = math.nan
    tensors = any(isinstance(argument, Tensor) for argument in (*arguments, *keywords.values()))
    return Tensor(result) if tensors else result
