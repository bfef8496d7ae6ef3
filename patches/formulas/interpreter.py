"""Computes what a function's body returns, for one number in each tensor, from its syntax tree. It runs no code."""

import ast
import math
import operator
from collections.abc import Callable, Sequence

from patches.formulas.torch_calls import NUMERIC, REFUSED, TORCH, WITHOUT_EFFECT, Call
from patches.formulas.values import Opaque, Tensor, Unknown, compute, number

OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
COMPARISONS = {ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.Eq: operator.eq, ast.NotEq: operator.ne}
FLOAT_DTYPES = {"float", "float32", "float64", "double"}


class Returned:
    """Holds the value that a return statement gives."""

    def __init__(self, value: object) -> None:
        self.value = value


class Interpreter:
    """`variables` are the function's arguments by name, and `noise` draws a standard normal number.

    Each method `_visit_X` takes a node of the class ast.X. It gives an expression's value; for a statement it gives
    Returned or None.
    """

    def __init__(self, variables: dict[str, object], noise: Callable[[], float], first_line: int) -> None:
        self.variables, self.noise, self.first_line = variables, noise, first_line

    def run(self, body: Sequence[ast.stmt]) -> object:
        """What the body returns; raises Unknown, with its line, for the first construct that is not known."""
        returned = self._execute(body)
        if returned is None:
            raise Unknown("returns nothing", 1)
        return returned.value

    def _execute(self, body: Sequence[ast.stmt]) -> Returned | None:
        for statement in body:
            if (returned := self._visit(statement)) is not None:
                return returned
        return None

    def _visit(self, node: ast.AST) -> object:
        method = getattr(self, f"_visit_{type(node).__name__}", None)
        line = getattr(node, "lineno", self.first_line) - self.first_line + 1
        if method is None:
            raise Unknown(f"has a construct ({type(node).__name__}) that is not known", line)
        try:
            return method(node)
        except Unknown as unknown:
            raise unknown if unknown.line else Unknown(unknown.what, line) from None

    def _visit_Return(self, node: ast.Return) -> Returned:
        return Returned(None if node.value is None else self._visit(node.value))

    def _visit_Expr(self, node: ast.Expr) -> None:
        self._visit(node.value)

    def _visit_Assign(self, node: ast.Assign) -> None:
        value = self._visit(node.value)
        for target in node.targets:
            self._bind(target, value)

    def _visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, self._visit(node.value))

    def _visit_AugAssign(self, node: ast.AugAssign) -> None:
        if not isinstance(node.target, ast.Name):
            raise Unknown(f"assigns to {ast.unparse(node.target)}")
        old = self._visit_Name(node.target)
        value = self._operate(node.op, old, self._visit(node.value))
        if isinstance(old, Tensor):
            old.value = number(value)
        else:
            self.variables[node.target.id] = value

    def _bind(self, target: ast.expr, value: object) -> None:
        if isinstance(target, ast.Name):
            self.variables[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, tuple) and len(target.elts) == len(value):
            for part, element in zip(target.elts, value):
                self._bind(part, element)
        else:
            raise Unknown(f"assigns to {ast.unparse(target)}")

    def _visit_If(self, node: ast.If) -> Returned | None:
        return self._execute(node.body if self._is_true(node.test) else node.orelse)

    def _visit_IfExp(self, node: ast.IfExp) -> object:
        return self._visit(node.body if self._is_true(node.test) else node.orelse)

    def _is_true(self, node: ast.expr) -> bool:
        value = self._visit(node)
        if not _is_plain(value):
            raise Unknown(f"has a condition ({ast.unparse(node)}) that depends on values")
        return bool(value)

    def _visit_Compare(self, node: ast.Compare) -> bool:
        left, right, comparison = self._visit(node.left), self._visit(node.comparators[0]), node.ops[0]
        is_plain = (_is_plain(left) or isinstance(comparison, ast.Is | ast.IsNot)) and _is_plain(right)
        if len(node.ops) > 1 or not is_plain or type(comparison) not in COMPARISONS:
            raise Unknown(f"has a condition ({ast.unparse(node)}) that depends on values")
        return COMPARISONS[type(comparison)](left, right)

    def _visit_Constant(self, node: ast.Constant) -> object:
        return node.value

    def _visit_Name(self, node: ast.Name) -> object:
        if node.id not in self.variables:
            raise Unknown(f"reads {node.id}, which is not known")
        return self.variables[node.id]

    def _visit_Tuple(self, node: ast.Tuple) -> tuple[object, ...]:
        return tuple(map(self._visit, node.elts))

    def _visit_BinOp(self, node: ast.BinOp) -> object:
        return self._operate(node.op, self._visit(node.left), self._visit(node.right))

    def _operate(self, operation: ast.operator, left: object, right: object) -> object:
        if type(operation) not in OPERATORS:
            raise Unknown(f"has an operator ({type(operation).__name__}) that is not known")
        return compute(OPERATORS[type(operation)], left, right)

    def _visit_UnaryOp(self, node: ast.UnaryOp) -> object:
        if isinstance(node.op, ast.Not):
            return not self._is_true(node.operand)
        if isinstance(node.op, ast.USub):
            return compute("neg", self._visit(node.operand))
        raise Unknown(f"has an operator ({type(node.op).__name__}) that is not known")

    def _visit_Attribute(self, node: ast.Attribute) -> object:
        module = self._module(node.value)
        if module in NUMERIC and node.attr in {"pi", "e"}:
            return getattr(math, node.attr)
        if module in TORCH and node.attr in FLOAT_DTYPES:
            return Opaque("dtype")
        if module is None and node.attr in {"shape", "dtype", "device"} and isinstance(self._visit(node.value), Tensor):
            return Opaque(node.attr)
        raise Unknown(f"reads {ast.unparse(node)}, which is not known")

    def _visit_Call(self, node: ast.Call) -> object:
        if not isinstance(node.func, ast.Attribute):
            raise Unknown(f"calls {ast.unparse(node.func)}, which is not known")
        if node.func.attr in REFUSED:
            raise Unknown(REFUSED[node.func.attr])
        module, name = self._module(node.func.value), node.func.attr
        if module is not None and module not in NUMERIC:
            raise Unknown(f"calls {module}.{name}, which is not known")
        owner = module or self._visit(node.func.value)
        arguments = list(map(self._visit, node.args))
        keywords = {word.arg: self._visit(word.value) for word in node.keywords if word.arg not in WITHOUT_EFFECT}
        return Call(owner, name, arguments, keywords, self.noise).value()

    def _module(self, node: ast.expr) -> str | None:
        """The dotted name of a module; None for an expression that begins with a variable of the function."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        return ast.unparse(node) if isinstance(root, ast.Name) and root.id not in self.variables else None


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
