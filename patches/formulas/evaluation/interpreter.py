"""Walks the syntax tree of a function's body and computes its value, or says which construct it does not know."""

import ast
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from patches.formulas.evaluation.elementwise import CONSTANTS, OPERATORS, compute
from patches.formulas.evaluation.torch_calls import (
    FLOAT_DTYPES,
    NUMERIC,
    PASSED_OVER,
    TORCH,
    WITHOUT_EFFECT,
    Call,
    call_method,
    call_module,
)
from patches.formulas.evaluation.values import Note, Opaque, Tensor, Unknown, number

COMPARISONS = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le}
COMPARISONS |= {ast.Gt: operator.gt, ast.GtE: operator.ge}
STOPS_GRADIENT = {"no_grad", "inference_mode"}
HARMLESS_CONTEXTS = {"enable_grad", "autocast", "record_function"}


@dataclass(frozen=True)
class Returned:
    value: object


@dataclass
class Interpreter:
    """`variables` are the function's arguments; `first_line` is the line of its def; `noise` gives a normal number."""

    variables: dict[str, object]
    noise: Callable[[], float]
    first_line: int = 1
    notes: list[Note] = field(default_factory=list)

    def run(self, body: Sequence[ast.stmt]) -> object:
        """What the body returns; Unknown, with its line, for the first construct that is not known."""
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
        """An expression's value; what a statement returns, or None."""
        method = getattr(self, f"_visit_{type(node).__name__}", None)
        line = getattr(node, "lineno", self.first_line) - self.first_line + 1
        if method is None:
            raise Unknown(f"has a construct ({type(node).__name__}) that is not known", line)
        try:
            return method(node)
        except Unknown as unknown:
            raise unknown if unknown.line else Unknown(unknown.what, line) from None

    # statements: None, or Returned

    def _visit_Return(self, node: ast.Return) -> Returned:
        return Returned(None if node.value is None else self._visit(node.value))

    def _visit_Pass(self, node: ast.Pass) -> None:
        pass

    _visit_Assert = _visit_Pass  # it computes nothing

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
        value = self._operate(node.op, (old := self._visit(_loaded(node.target)), self._visit(node.value)))
        if isinstance(old, Tensor):
            old.value = number(value)
        else:
            self._bind(node.target, value)

    def _visit_If(self, node: ast.If) -> Returned | None:
        return self._execute(node.body if self._truth(node.test) else node.orelse)

    def _visit_With(self, node: ast.With) -> Returned | None:
        for item in node.items:
            name = last_name(item.context_expr)
            if name in STOPS_GRADIENT:
                self.notes.append(Note(node.lineno - self.first_line + 1, "stops the gradient", gradient=True))
            elif name not in HARMLESS_CONTEXTS or item.optional_vars:
                raise Unknown(f"has a context ({ast.unparse(item)}) that is not known")
        return self._execute(node.body)

    def _bind(self, target: ast.expr, value: object) -> None:
        if isinstance(target, ast.Name):
            self.variables[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, tuple) and len(target.elts) == len(value):
            for part, element in zip(target.elts, value):
                self._bind(part, element)
        else:
            raise Unknown(f"assigns to {ast.unparse(target)}")

    # expressions: their values

    def _visit_Constant(self, node: ast.Constant) -> object:
        if node.value is None or isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise Unknown(f"has a constant ({node.value!r}) that is no number")

    def _visit_Name(self, node: ast.Name) -> object:
        if node.id not in self.variables:
            raise Unknown(f"reads {node.id}, which is not known")
        return self.variables[node.id]

    def _visit_NamedExpr(self, node: ast.NamedExpr) -> object:
        self._bind(node.target, value := self._visit(node.value))
        return value

    def _visit_Tuple(self, node: ast.Tuple) -> tuple[object, ...]:
        return tuple(map(self._visit, node.elts))

    def _visit_Starred(self, node: ast.Starred) -> Opaque:
        if (value := self._visit(node.value)) != Opaque("shape"):
            raise Unknown(f"unpacks {ast.unparse(node.value)}")
        return value

    def _visit_BinOp(self, node: ast.BinOp) -> object:
        return self._operate(node.op, (self._visit(node.left), self._visit(node.right)))

    def _operate(self, operation: ast.operator, operands: tuple[object, object]) -> object:
        if type(operation) not in OPERATORS:
            raise Unknown(f"has an operator ({type(operation).__name__}) that is not known")
        return compute(OPERATORS[type(operation)], operands)

    def _visit_UnaryOp(self, node: ast.UnaryOp) -> object:
        if isinstance(node.op, ast.Not):
            return not self._truth(node.operand)
        if isinstance(node.op, ast.USub):
            return compute("neg", (self._visit(node.operand),))
        raise Unknown(f"has an operator ({type(node.op).__name__}) that is not known")

    def _visit_BoolOp(self, node: ast.BoolOp) -> object:
        decides = isinstance(node.op, ast.Or)
        for operand in node.values[:-1]:
            if self._truth_of(value := self._visit(operand), operand) == decides:
                return value
        return self._visit(node.values[-1])

    def _visit_IfExp(self, node: ast.IfExp) -> object:
        return self._visit(node.body if self._truth(node.test) else node.orelse)

    def _visit_Compare(self, node: ast.Compare) -> bool:
        left, right = self._visit(node.left), self._visit(node.comparators[0])
        comparison = node.ops[0]
        if len(node.ops) == 1 and isinstance(comparison, (ast.Is, ast.IsNot)) and right is None:
            return (left is right) == isinstance(comparison, ast.Is)
        plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in (left, right))
        if len(node.ops) > 1 or not plain or type(comparison) not in COMPARISONS:
            raise Unknown(f"has a condition ({ast.unparse(node)}) that depends on values")
        try:
            return COMPARISONS[type(comparison)](left, right)
        except TypeError:
            raise Unknown(f"has a condition ({ast.unparse(node)}) that cannot be decided") from None

    def _truth(self, node: ast.expr) -> bool:
        return self._truth_of(self._visit(node), node)

    def _truth_of(self, value: object, node: ast.expr) -> bool:
        if value is None or isinstance(value, (bool, int, float, str)):
            return bool(value)
        raise Unknown(f"has a condition ({ast.unparse(node)}) that depends on values")

    def _visit_Attribute(self, node: ast.Attribute) -> object:
        if (module := self._module(node.value)) is not None:
            return _module_attribute(module, node.attr)
        value = self._visit(node.value)
        if isinstance(value, Tensor) and node.attr in {"shape", "dtype", "device"}:
            return Opaque(node.attr)
        if isinstance(value, Tensor) and node.attr == "data":
            self.notes.append(Note(node.lineno - self.first_line + 1, "stops the gradient", gradient=True))
            return value
        raise Unknown(f"reads {ast.unparse(node)}, which is not known")

    def _visit_Call(self, node: ast.Call) -> object:
        if not isinstance(node.func, ast.Attribute):
            return self._call_name(node)
        module = self._module(node.func.value)
        receiver = None if module else self._visit(node.func.value)
        if node.func.attr in PASSED_OVER:  # what else it is given need not be known
            node = ast.copy_location(ast.Call(node.func, node.args[:1] if module else [], []), node)
        call = self._call(node.func.attr, node)
        return call_module(module, call) if module else call_method(receiver, call)

    def _call_name(self, node: ast.Call) -> object:
        """float(x) of a number and pow(x, y): other names may be bound to anything."""
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name in {"float", "pow"} and name not in self.variables:
            arguments = self._call(name, node).arguments
            return compute("pow", arguments) if name == "pow" else compute("add", (*arguments, 0.0))
        raise Unknown(f"calls {name}, which is not known")

    def _call(self, name: str, node: ast.Call) -> Call:
        arguments = [self._visit(argument) for argument in node.args]
        keywords = {word.arg: self._visit(word.value) for word in node.keywords if word.arg not in WITHOUT_EFFECT}
        line = node.lineno - self.first_line + 1
        if None in keywords:
            raise Unknown(f"calls {name} with ** arguments")
        return Call(name, arguments, keywords, line, self.noise, self.notes)

    def _module(self, node: ast.expr) -> str | None:
        """The dotted name, if it begins with a name that the function does not bind."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        free = isinstance(root, ast.Name) and root.id not in self.variables
        return ast.unparse(node) if free else None


def last_name(node: ast.expr) -> str:
    """no_grad of no_grad, torch.no_grad and torch.no_grad(); "" if there is no name."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _loaded(target: ast.expr) -> ast.expr:
    if not isinstance(target, ast.Name):
        raise Unknown(f"assigns to {ast.unparse(target)}")
    return target


def _module_attribute(module: str, name: str) -> object:
    if module in NUMERIC and name in CONSTANTS:
        return CONSTANTS[name]
    if module in TORCH and name in FLOAT_DTYPES:
        return Opaque("dtype")
    raise Unknown(f"reads {module}.{name}, which is not known")
