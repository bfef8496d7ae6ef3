"""A function of the user's, ready to be evaluated at numbers for its parameters."""

import ast
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import libcst as cst

from patches.formulas.evaluation.interpreter import STOPS_GRADIENT, Interpreter, last_name
from patches.formulas.evaluation.values import Note, Tensor, Unknown

MOST_PARAMETERS = 8
HARMLESS_DECORATORS = {"script", "script_method", "script_if_tracing", "ignore", "export", "unused", "compile"}
HARMLESS_DECORATORS |= {"autocast", "custom_fwd", "enable_grad", "staticmethod", "classmethod"}
HARMLESS_DECORATORS |= {"typechecked", "jaxtyped", "beartype"}


@dataclass(frozen=True)
class Outcome:
    value: float
    noises: tuple[float, ...]  # the numbers that its noise calls gave
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Subject:
    name: str
    required: tuple[str, ...]
    defaulted: tuple[str, ...]
    defaults: Mapping[str, object]  # those that are literal
    tree: ast.FunctionDef

    def at(self, point: Mapping[str, float], seed: int) -> Outcome:
        """What it returns for tensors of these numbers, with defaults for other parameters; Unknown if unclear."""
        if extra := self.tree.args.vararg or self.tree.args.kwarg:
            raise Unknown(f"takes any arguments ({extra.arg})", 1)
        tensors = {name: Tensor(value) for name, value in point.items()}
        noise, noises = random.Random(seed), []

        def draw() -> float:
            noises.append(noise.uniform(0.3, 1.7))
            return noises[-1]

        interpreter = Interpreter({**self.defaults, **tensors}, draw, self.tree.lineno)
        try:
            value = interpreter.run(self.tree.body)
        except RecursionError:
            raise Unknown("is nested too deeply", 1) from None
        if not isinstance(value, Tensor):
            raise Unknown("returns something that is not one tensor", 1)
        changed = [Note(1, f"changes its argument {name}") for name in point if tensors[name].value != point[name]]
        return Outcome(value.value, tuple(noises), (*self._decorators(), *interpreter.notes, *changed))

    def _decorators(self) -> list[Note]:
        notes = []
        for decorator in self.tree.decorator_list:
            if (name := last_name(decorator)) in STOPS_GRADIENT:
                notes.append(Note(1, "stops the gradient", gradient=True))
            elif name not in HARMLESS_DECORATORS:
                notes.append(Note(1, f"has the decorator {ast.unparse(decorator)}, which is not known"))
        return notes


def read(function: cst.FunctionDef) -> Subject | None:
    """None for what cannot be a formula: async, with no or many parameters, or not of this Python."""
    tree = _parsed(function)
    if not isinstance(tree, ast.FunctionDef):
        return None
    positional = [argument.arg for argument in (*tree.args.posonlyargs, *tree.args.args)]
    named = [argument.arg for argument in tree.args.kwonlyargs]
    given = len(positional) - len(tree.args.defaults)
    defaults = dict(zip(positional[given:], tree.args.defaults))
    defaults |= {name: value for name, value in zip(named, tree.args.kw_defaults) if value is not None}
    receiver = positional[:1] if positional[:1] in (["self"], ["cls"]) else []
    required = tuple(name for name in (*positional, *named) if name not in defaults and name not in receiver)
    if not 1 <= len(required) + len(defaults) <= MOST_PARAMETERS:
        return None
    return Subject(tree.name, required, tuple(defaults), _literals(defaults), tree)


def _parsed(function: cst.FunctionDef) -> ast.stmt | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the user's strings
            return ast.parse(cst.Module([]).code_for_node(function)).body[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _literals(defaults: Mapping[str, ast.expr]) -> dict[str, object]:
    literals = {}
    for name, node in defaults.items():
        try:
            literals[name] = Interpreter({}, noise=float).run([ast.Return(node)])
        except Unknown:
            continue
    return {name: value for name, value in literals.items() if not isinstance(value, Tensor)}
