"""Where a local variable of a function comes from: its definitions, and the call of self's that it is a piece of."""

from dataclasses import dataclass
from typing import NamedTuple

import libcst as cst

_CUTS = {"chunk", "split", "tensor_split", "unbind"}
_SAME = {"float", "contiguous", "double", "half", "to", "clone"}


class Origin(NamedTuple):
    """`root` is the code of the function called on self, such as `self.prior`; `piece` says what part of its result."""

    root: str
    piece: str


@dataclass(frozen=True)
class Definition:
    """One assignment to a name: the statement, the expression, and the name's place in a tuple of targets, or -1."""

    statement: cst.SimpleStatementLine
    value: cst.BaseExpression
    index: int


def definitions(function: cst.FunctionDef) -> dict[str, list[Definition]]:
    """All assignments to local names in the order of the text; nested functions are left out."""
    collector = _Assignments()
    function.body.visit(collector)
    return collector.found


def reads(node: cst.CSTNode) -> set[str]:
    """The names that occur in an expression, attributes left out."""
    collector = _Names()
    node.visit(collector)
    return collector.found


def origin(module: cst.Module, defined: dict[str, list[Definition]], expression: cst.BaseExpression) -> Origin | None:
    """What an expression is a piece of; None if it is not a piece of the result of one call on self.

    A name stands for its first definition: later ones that read the name itself only adjust it.
    """
    return _origin(module, defined, expression, frozenset())


def _origin(module: cst.Module, defined: dict, expression: cst.BaseExpression, seen: frozenset[str]) -> Origin | None:
    if isinstance(expression, cst.Name):
        name = expression.value
        if name not in defined or name in seen:
            return None
        return _defined_as(module, defined, defined[name][0], seen | {name})
    if isinstance(expression, cst.Subscript):
        keys = ",".join(module.code_for_node(element.slice) for element in expression.slice)
        return _part(_origin(module, defined, expression.value, seen), f"[{keys}]")
    if isinstance(expression, cst.Call):
        return _called(module, defined, expression, seen)
    return None


def _defined_as(module: cst.Module, defined: dict, definition: Definition, seen: frozenset[str]) -> Origin | None:
    value, index = definition.value, definition.index
    if index >= 0 and isinstance(value, cst.Tuple | cst.List):
        return _origin(module, defined, value.elements[index].value, seen)
    whole = _origin(module, defined, value, seen)
    return _part(whole, f"[{index}]") if index >= 0 else whole


def _called(module: cst.Module, defined: dict, call: cst.Call, seen: frozenset[str]) -> Origin | None:
    function = call.func
    if not isinstance(function, cst.Attribute):
        return None
    name, owner = function.attr.value, function.value
    if isinstance(owner, cst.Name) and owner.value == "self":
        return Origin(f"self.{name}", "")
    if isinstance(owner, cst.Name) and owner.value == "torch" and name in _CUTS and call.args:
        return _part(_origin(module, defined, call.args[0].value, seen), _cut(module, name, call.args[1:]))
    if name in _CUTS:
        return _part(_origin(module, defined, owner, seen), _cut(module, name, call.args))
    return _origin(module, defined, owner, seen) if name in _SAME else None


def _cut(module: cst.Module, name: str, arguments: list[cst.Arg]) -> str:
    return f".{name}({','.join(module.code_for_node(argument.value) for argument in arguments)})"


def _part(whole: Origin | None, piece: str) -> Origin | None:
    return whole and Origin(whole.root, whole.piece + "".join(piece.split()))


class _Assignments(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: dict[str, list[Definition]] = {}
        self.line: cst.SimpleStatementLine | None = None

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return False

    def visit_Lambda(self, node: cst.Lambda) -> bool:
        return False

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self.line = node

    def visit_Assign(self, node: cst.Assign) -> None:
        for target in node.targets:
            self._add(target.target, node.value)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if node.value is not None:
            self._add(node.target, node.value)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._add(node.target, cst.Tuple([cst.Element(node.target), cst.Element(node.value)]))

    def _add(self, target: cst.BaseExpression, value: cst.BaseExpression) -> None:
        if isinstance(target, cst.Name):
            self.found.setdefault(target.value, []).append(Definition(self.line, value, -1))
        elif isinstance(target, cst.Tuple | cst.List):
            for index, element in enumerate(target.elements):
                if isinstance(element.value, cst.Name):
                    self.found.setdefault(element.value.value, []).append(Definition(self.line, value, index))


class _Names(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Name(self, node: cst.Name) -> None:
        self.found.add(node.value)

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False
