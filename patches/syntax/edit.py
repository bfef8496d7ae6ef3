"""Puts statements into a LibCST module and leaves every other byte of it as it was."""

from collections.abc import Sequence
from dataclasses import fields

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement

_DOCSTRING = m.SimpleStatementLine(body=[m.Expr(m.SimpleString() | m.ConcatenatedString())])


def add_import(module: cst.Module, code: str, before: Statement | None = None) -> cst.Module:
    """The module with the import statement `code`; unchanged if that very statement is at its top level already.

    It goes below the last import above the first function, class or loop, and above `before`, a statement of the
    module's top level. In a module without imports it goes below the docstring, else to the top.
    """
    if any(code_of(module, statement) == code for statement in module.body):
        return module
    (statement,) = cst.parse_module(code).body
    index = _import_index(module, before)
    if index == 1 and m.matches(module.body[0], _DOCSTRING):
        statement = statement.with_changes(leading_lines=[cst.EmptyLine(indent=False)])
    return module.with_changes(body=[*module.body[:index], statement, *module.body[index:]])


def insert_after(module: cst.Module, statement: Statement, code: str) -> cst.Module:
    """The module with the statements of `code` below `statement`, at its indentation and with its line ends.

    `statement` is found by identity and must stand on lines of its own: ValueError if not. Statements other than those
    that contain it stay the same objects, so they can be used in the next call.
    """
    return _insert(module, statement, code, offset=1)


def insert_before(module: cst.Module, statement: Statement, code: str) -> cst.Module:
    """Like insert_after, but above `statement` and above the comments that belong to it."""
    return _insert(module, statement, code, offset=0)


def replace(module: cst.Module, old: cst.CSTNode, new: cst.CSTNode) -> cst.Module:
    """The module with `new` in the place of `old`, which is found by identity. Nodes that do not contain it stay the same.

    Raises ValueError if `old` is not in the module.
    """
    path = path_to(module, old)
    if not path:
        raise ValueError(f"not in this module: {code_of(module, old)!r}")
    return module.visit(_Replace(path, new))


def path_to(node: cst.CSTNode, target: cst.CSTNode) -> list[cst.CSTNode]:
    """The nodes from `node` down to `target`, both included; empty if `target` is not below `node`."""
    if node is target:
        return [node]
    for value in (getattr(node, field.name) for field in fields(node)):
        for child in value if isinstance(value, list | tuple) else (value,):
            if isinstance(child, cst.CSTNode) and (rest := path_to(child, target)):
                return [node, *rest]
    return []


def line_of(module: cst.Module, node: cst.CSTNode) -> int:
    """The line, from 1, on which the node begins; the comments above it do not count."""
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    return positions[node].start.line


def code_of(module: cst.Module, node: cst.CSTNode) -> str:
    """The node's code without the comments above it, without its indentation and without its last newline."""
    if isinstance(node, Statement):
        node = node.with_changes(leading_lines=())
    return module.code_for_node(node).strip()


class _Replace(cst.CSTTransformer):
    """Rebuilds the ancestors of the old node and nothing else."""

    def __init__(self, path: Sequence[cst.CSTNode], new: cst.CSTNode) -> None:
        super().__init__()
        self.ancestors, self.old, self.new = {id(node) for node in path[:-1]}, path[-1], new

    def on_visit(self, node: cst.CSTNode) -> bool:
        return id(node) in self.ancestors

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:
        return self.new if original_node is self.old else updated_node


def _insert(module: cst.Module, statement: Statement, code: str, offset: int) -> cst.Module:
    block = next(iter(path_to(module, statement)[:-1][-1:]), None)
    if not isinstance(block, cst.Module | cst.IndentedBlock):
        raise ValueError(f"not a statement on lines of its own in this module: {code_of(module, statement)!r}")
    at = next(index for index, each in enumerate(block.body) if each is statement) + offset
    new = cst.parse_module(code).body
    return replace(module, block, block.with_changes(body=[*block.body[:at], *new, *block.body[at:]]))


def _import_index(module: cst.Module, before: Statement | None) -> int:
    index = 0
    for at, statement in enumerate(module.body):
        if statement is before or _ends_imports(statement):
            break
        if m.findall(statement, m.Import() | m.ImportFrom()) or (at == 0 and m.matches(statement, _DOCSTRING)):
            index = at + 1
    return index


def _ends_imports(statement: Statement) -> bool:
    if isinstance(statement, cst.SimpleStatementLine | cst.Try):
        return False
    return not isinstance(statement, cst.If) or bool(m.findall(statement.test, m.Name("__name__")))
