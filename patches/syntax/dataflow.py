"""Follows a local variable back to the call on self that it is a piece of."""

from dataclasses import dataclass
from typing import NamedTuple

import libcst as cst

_CUTS = {"chunk", "split"}
_CONVERSIONS = {"float", "contiguous", "double", "half", "to", "clone"}


class Origin(NamedTuple):
    """`root` is the code of the function that is called on self, such as `self.prior`; `piece` is the part of its result."""

    root: str
    piece: str


@dataclass(frozen=True)
class Definition:
    """One assignment to a name: the statement, the expression, and the name's place in a tuple of targets, or -1."""

    statement: cst.SimpleStatementLine
    value: cst.BaseExpression
    index: int


Definitions = dict[str, list[Definition]]  # by name, in the order of the text


def definitions(function: cst.FunctionDef) -> Definitions:
    """All assignments to local names; nested functions are left out."""
    collector = _Assignments()
    function.body.visit(collector)
    return collector.found


def names_in(node: cst.CSTNode) -> set[str]:
    """The names in an expression, without those of attributes."""
    collector = _Names()
    node.visit(collector)
    return collector.found


def origin(module: cst.Module, defined: Definitions, expression: cst.BaseExpression) -> Origin | None:
    """The call and the piece of its result that an expression is; None if it is no such piece.

    A name stands for its first definition, because later ones only adjust it.
    """
    if isinstance(expression, cst.Name):
        return _of_name(module, defined, expression.value)
    if isinstance(expression, cst.Subscript):
        keys = ",".join(module.code_for_node(element.slice) for element in expression.slice)
        return _part(origin(module, defined, expression.value), f"[{keys}]")
    if isinstance(expression, cst.Call) and isinstance(expression.func, cst.Attribute):
        return _of_call(module, defined, expression, expression.func.value, expression.func.attr.value)
    return None


def _of_name(module: cst.Module, defined: Definitions, name: str) -> Origin | None:
    if name not in defined:
        return None
    value, index = defined[name][0].value, defined[name][0].index
    rest = {other: found for other, found in defined.items() if other != name}  # so that `x = x + 1` ends the search
    if index >= 0 and isinstance(value, cst.Tuple):
        return origin(module, rest, value.elements[index].value)
    whole = origin(module, rest, value)
    return _part(whole, f"[{index}]") if index >= 0 else whole


def _of_call(
    module: cst.Module, defined: Definitions, call: cst.Call, owner: cst.BaseExpression, name: str
) -> Origin | None:
    owner_name = owner.value if isinstance(owner, cst.Name) else ""
    if owner_name == "self":
        return Origin(f"self.{name}", "")
    if name in _CONVERSIONS:
        return origin(module, defined, owner)
    if name not in _CUTS:
        return None
    whole, *arguments = [owner] * (owner_name != "torch") + [argument.value for argument in call.args]
    return _part(origin(module, defined, whole), f".{name}({','.join(map(module.code_for_node, arguments))})")


def _part(whole: Origin | None, piece: str) -> Origin | None:
    return whole and Origin(whole.root, whole.piece + "".join(piece.split()))


class _Assignments(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: Definitions = {}
        self.line: cst.SimpleStatementLine | None = None

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
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
        targets = [(target, -1)]
        if isinstance(target, cst.Tuple):
            targets = [(element.value, index) for index, element in enumerate(target.elements)]
        for name, index in targets:
            if isinstance(name, cst.Name):
                self.found.setdefault(name.value, []).append(Definition(self.line, value, index))


class _Names(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Name(self, node: cst.Name) -> None:
        self.found.add(node.value)

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False
