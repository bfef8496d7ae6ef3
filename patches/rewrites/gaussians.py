"""Recognises the KL of two diagonal normals, and the draw from one, by what a function computes from small tensors.

The function is not run as it stands. Its body may hold only arithmetic, conditions on plain values, and the functions of
torch and math that are listed here; this body is computed, with nothing else in reach.
"""

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from types import SimpleNamespace

import torch

from patches.code.names import dotted

ELEMENTWISE = {"exp", "expm1", "log", "log1p", "sqrt", "pow", "square", "reciprocal", "add", "sub", "mul", "div", "neg"}
LIKE = {"empty_like": math.nan, "zeros_like": 0.0, "ones_like": 1.0}  # each with the value that it fills in
NOISE, SHAPES, CONSTANTS = {"randn_like", "randn", "normal_"}, {"shape", "size", "clone", "sum", "mean"}, {"pi", "e", "special"}
MAKERS = {"empty": math.nan, "FloatTensor": math.nan, "zeros": 0.0, "ones": 1.0}
CONVERSIONS = {"float", "double", "cuda", "cpu", "contiguous", "to", "type_as"}  # left out, for all is float64 here
FLOATS = {"dtype", "device", "float", "float32", "float64", "double"}
WITHOUT_EFFECT = {"device", "dtype", "requires_grad", "generator", "non_blocking"}
ATTRIBUTES = ELEMENTWISE | {f"{name}_" for name in ELEMENTWISE} | {*LIKE, *MAKERS} | NOISE | SHAPES | CONSTANTS
DECORATORS = {"script", "script_method", "ignore", "export", "compile", "staticmethod"}
NODES = tuple(getattr(ast, name) for name in (
    "FunctionDef arguments arg Return Expr Assign AnnAssign AugAssign If IfExp Compare Is IsNot Eq NotEq Constant Name Tuple BinOp "
    "Add Sub Mult Div Pow UnaryOp Not USub Attribute Call keyword Load Store").split())  # fmt: skip
TORCH = SimpleNamespace(**{name: getattr(torch, name) for name in {*ELEMENTWISE, "randn_like", "sum", "mean"}}, pi=math.pi, e=math.e)
TORCH.special, TORCH.randn = TORCH, lambda size: torch.randn(size, dtype=torch.float64)
vars(TORCH).update({name: lambda x, fill=fill: torch.full_like(x, fill) for name, fill in LIKE.items()})
vars(TORCH).update({name: lambda size, fill=fill: torch.full(size, fill, dtype=torch.float64) for name, fill in MAKERS.items()})
MODULES = {"torch": TORCH, "th": TORCH, "math": math, "np": math, "numpy": math}
TO_LOG_SIGMA = {
    "log sigma": lambda x: x, "log variance": lambda x: x / 2, "sigma": torch.log, "variance": lambda x: torch.log(x) / 2,
}  # fmt: skip
KL_NAME = re.compile(r"(?<![a-z])kl|kl(?![a-z])|KL|Kl|kullback|divergence", re.ASCII)


@dataclass(frozen=True)
class Kl:
    """A KL per element. Its value does not show which mean belongs to which scale: the first is taken for the first's."""

    roles: dict[str, str]  # of four parameters: loc, log_scale, prior_loc, prior_log_scale
    scale: str  # one of TO_LOG_SIGMA


@dataclass(frozen=True)
class Draw:
    """sigma * noise + loc."""

    roles: dict[str, str]  # of two parameters: loc, log_scale
    scale: str


class Unknown(Exception):
    """The function cannot be computed here; its name and then this message make a sentence."""


def recognise(function: ast.FunctionDef) -> Kl | Draw | None:
    """The KL or the draw that the function computes with its other parameters at their defaults; None for neither."""
    try:
        return _recognised(function)
    except (Unknown, RecursionError):
        return None


def why_not(function: ast.FunctionDef) -> str | None:
    """Why a function that is named like a KL and has an exponential is not one; None for any other function."""
    names = {getattr(node, "attr", "") for node in ast.walk(function)}
    if not KL_NAME.search(function.name) or not names & {"exp", "exp_", "expm1", "log"}:
        return None
    try:
        return None if _recognised(function) else "computes something else than the KL of two normals"
    except (Unknown, RecursionError) as error:
        return str(error)


def _recognised(function: ast.FunctionDef) -> Kl | Draw | None:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    required = positional[: len(positional) - len(given.defaults)]
    required += [word for word, default in zip(given.kwonlyargs, given.kw_defaults) if default is None]
    names = tuple(each.arg for each in required if each.arg not in ("self", "cls"))
    return _computed(ast.unparse(function), names) if len(names) in (2, 4) else None


@cache
def _computed(code: str, required: tuple[str, ...]) -> Kl | Draw | None:
    return {4: _kl, 2: _draw}[len(required)](_Body(ast.parse(code).body[0]), required)


class _Body(ast.NodeTransformer):
    """The function with nothing but known constructs, to be computed at one tensor for each of its parameters."""

    def __init__(self, function: ast.FunctionDef) -> None:
        for decorator in function.decorator_list:
            if dotted(decorator.func if isinstance(decorator, ast.Call) else decorator).split(".")[-1] not in DECORATORS:
                raise Unknown(f"has the decorator {ast.unparse(decorator)}, which is not known")
        function.decorator_list, function.returns = [], None
        try:
            tree, names = self.visit(function), dict(MODULES, __builtins__={})
            exec(compile(ast.fix_missing_locations(ast.Module([tree], [])), "", "exec"), names)
        except (RecursionError, MemoryError, SyntaxError):
            raise Unknown("is nested too deeply") from None
        self.function = names[function.name]

    def at(self, point: dict[str, torch.Tensor]) -> torch.Tensor:
        """The function's value; raises Unknown if there is none, or if the function changes an argument."""
        given = {name: value.clone() for name, value in point.items()}
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                value = self.function(**given)
        except Exception as error:  # other people's code may raise anything
            raise Unknown(f"cannot be computed: {error}") from None
        if not isinstance(value, torch.Tensor) or value.shape != next(iter(given.values())).shape:
            raise Unknown("returns something else than one value for each element; does it add them up?")
        for name in given:
            if not torch.equal(given[name], point[name]):
                raise Unknown(f"changes its argument {name}")
        return value

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, NODES):
            raise Unknown(f"has {ast.unparse(node) or type(node).__name__}, which is not known")
        return super().generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        if extra := node.vararg or node.kwarg:
            raise Unknown(f"takes any number of arguments ({extra.arg})")
        node.args, node.posonlyargs = [each for each in node.posonlyargs + node.args if each.arg not in ("self", "cls")], []
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """A number becomes a float, so that no power takes for ever."""
        try:
            return ast.Constant(float(node.value)) if type(node.value) is int else node
        except OverflowError:
            raise Unknown("has a number that no float holds") from None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not isinstance(node.func, ast.Attribute):
            raise Unknown(f"calls {ast.unparse(node.func)}, which is not known")
        dropped = [word.value for word in node.keywords if word.arg in WITHOUT_EFFECT]
        dropped += node.args if node.func.attr in CONVERSIONS else []
        for each in dropped:
            if not isinstance(each, ast.Constant | ast.Name) and dotted(each).split(".")[-1] not in FLOATS:
                raise Unknown(f"has {ast.unparse(each)}, which is not known")
        node.keywords = [word for word in node.keywords if word.arg not in WITHOUT_EFFECT]
        return self.visit(node.func.value) if node.func.attr in CONVERSIONS else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr not in ATTRIBUTES:
            raise Unknown(f"has {ast.unparse(node)}, which is not known")
        return self.generic_visit(node)


def _kl(body: _Body, required: Sequence[str]) -> Kl | None:
    value = body.at(point := dict(zip(required, _uniform(4, 8) * 1.4 + 0.3)))
    for scale in TO_LOG_SIGMA:
        for first, second in permutations(required, 2):
            locs = [name for name in required if name not in (first, second)]
            locs = locs if required.index(first) < required.index(second) else locs[::-1]
            names = dict(zip((locs[0], first, locs[1], second), ("loc", "log_scale", "prior_loc", "prior_log_scale")))
            if _close(value, _true_kl(point, names, scale)) and _holds_far_out(body, names, scale):
                return Kl({name: names[name] for name in required}, scale)
    return None


def _true_kl(point: dict[str, torch.Tensor], names: dict[str, str], scale: str) -> torch.Tensor:
    loc, q, prior_loc, p = (TO_LOG_SIGMA[scale](point[name]) if "scale" in role else point[name] for name, role in names.items())
    return (torch.expm1(2 * (q - p)) + ((loc - prior_loc) * torch.exp(-p)) ** 2) / 2 - (q - p)


def _holds_far_out(body: _Body, names: dict[str, str], scale: str) -> bool:
    """Whether the value is the KL for tiny and large scales too, which show an epsilon or a bound."""
    if not scale.startswith("log"):
        return True
    shift, noise = torch.tensor([-40.0, -15.0, -7.0, 3.0, 12.0], dtype=torch.float64), _uniform(4, 5) * 2 - 1
    factor = 2 if scale == "log variance" else 1
    point = {name: factor * (shift + each) if "scale" in names[name] else shift.exp() * 2 * each for name, each in zip(names, noise)}
    return _close(body.at(point), _true_kl(point, names, scale))


def _draw(body: _Body, required: Sequence[str]) -> Draw | None:
    zero = torch.zeros(4096, dtype=torch.float64)
    noise = body.at(dict.fromkeys(required, zero))
    is_normal = abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1 and abs((noise.abs() < 1).double().mean() - 0.683) < 0.04
    if not is_normal or len(noise.unique()) < len(noise):
        return None
    unit, log_sigma = _uniform(2, len(zero)) * torch.tensor([[4.0], [52.0]]) - torch.tensor([[2.0], [40.0]])
    for scale, factor in {"log sigma": 1, "log variance": 2}.items():
        for loc, log_scale in permutations(required):
            value = body.at({loc: unit * log_sigma.exp(), log_scale: factor * log_sigma})
            if _close(value * torch.exp(-log_sigma), unit + noise):
                return Draw({name: "loc" if name == loc else "log_scale" for name in required}, scale)
    return None


def _uniform(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _close(value: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(value, expected, rtol=1e-9, atol=1e-9)
