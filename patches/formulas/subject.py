"""A function of the checkout that can be evaluated at numbers for its parameters."""

import ast
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import libcst as cst

from patches.formulas.interpreter import Interpreter
from patches.formulas.values import Tensor, Unknown

HARMLESS_DECORATORS = {"script", "script_method", "ignore", "export", "compile", "staticmethod"}


@dataclass(frozen=True)
class Subject:
    """`required` are the parameters without a default; `defaults` has the literal values of the others."""

    name: str
    required: tuple[str, ...]
    defaults: Mapping[str, object]
    tree: ast.FunctionDef

    def at(self, point: Mapping[str, float], seed: int) -> tuple[float, tuple[float, ...]]:
        """The value for tensors that hold the numbers of `point`, and the noise numbers that went into it.

        Raises Unknown where the value cannot be computed, or where the function changes an argument in place.
        """
        self._refuse_unknown_signature()
        tensors, noises, generator = {name: Tensor(value) for name, value in point.items()}, [], random.Random(seed)

        def noise() -> float:
            noises.append(generator.uniform(0.3, 1.7))
            return noises[-1]

        try:
            value = Interpreter({**self.defaults, **tensors}, noise, self.tree.lineno).run(self.tree.body)
        except RecursionError:
            raise Unknown("is nested too deeply", 1) from None
        if not isinstance(value, Tensor):
            raise Unknown("returns something that is not one tensor", 1)
        for name in point:
            if tensors[name].value != point[name]:
                raise Unknown(f"changes its argument {name}", 1)
        return value.value, tuple(noises)

    def _refuse_unknown_signature(self) -> None:
        if extra := self.tree.args.vararg or self.tree.args.kwarg:
            raise Unknown(f"takes any number of arguments ({extra.arg})", 1)
        for decorator in self.tree.decorator_list:
            if last_name(decorator) not in HARMLESS_DECORATORS:
                raise Unknown(f"has the decorator {ast.unparse(decorator)}, which is not known", 1)


def read(function: cst.FunctionDef) -> Subject | None:
    """None for an async function, and for code that this version of Python does not parse."""
    tree = _parsed(function)
    if not isinstance(tree, ast.FunctionDef):
        return None
    positional = [argument.arg for argument in (*tree.args.posonlyargs, *tree.args.args)]
    first_default = len(positional) - len(tree.args.defaults)
    defaults = dict(zip(positional[first_default:], tree.args.defaults))
    defaults |= {word.arg: value for word, value in zip(tree.args.kwonlyargs, tree.args.kw_defaults) if value is not None}
    names = [*positional, *(word.arg for word in tree.args.kwonlyargs)]
    required = tuple(name for name in names if name not in defaults and name not in {"self", "cls"})
    literals = {name: node.value for name, node in defaults.items() if isinstance(node, ast.Constant)}
    return Subject(tree.name, required, literals, tree)


def last_name(node: ast.AST) -> str:
    """`script` for `script`, `torch.jit.script` and `torch.jit.script()`; "" if there is no name."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _parsed(function: cst.FunctionDef) -> ast.stmt | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the user's strings
            return ast.parse(cst.Module([]).code_for_node(function)).body[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
