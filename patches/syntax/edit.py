"""Put statements into a LibCST module and leave every other byte of it as it was."""

from collections.abc import Sequence
from dataclasses import fields

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement

_IMPORT_LINE = m.SimpleStatementLine(body=[m.AtLeastN(m.Import() | m.ImportFrom(), n=1)])
_DOCSTRING = m.SimpleStatementLine(body=[m.Expr(m.SimpleString() | m.ConcatenatedString())])
_FUTURE = m.SimpleStatementLine(body=[m.ImportFrom(module=m.Name("__future__")), m.ZeroOrMore()])


def add_import(module: cst.Module, code: str, before: Statement | None = None) -> cst.Module:
    """The module with the import statement `code` in it, unchanged if the same names are imported at its top already.

    It goes below the last import above the first function, class or loop (and above `before`, a statement of the
    module's top level, if given); in a module without imports below its docstring, else to the top.
    """
    (statement,) = _parse(code)
    if any(_imports_all(line, statement) for line in _lead(module, before)):
        return module
    index = _import_index(module, before)
    blank = index == 1 and m.matches(module.body[0], _DOCSTRING)
    statement = statement.with_changes(leading_lines=[cst.EmptyLine(indent=False)]) if blank else statement
    return module.with_changes(body=[*module.body[:index], statement, *module.body[index:]])


def imports_from(module: cst.Module, origin: str, name: str) -> bool:
    """Whether the module imports `name` from a module called `origin`, in whatever package, anywhere."""
    last = m.Name(origin) | m.Attribute(attr=m.Name(origin))
    imports = m.findall(module, m.ImportFrom(module=last)) if origin in module.code else ()
    return any(m.findall(each, m.ImportAlias(name=m.Name(name))) for each in imports)


def insert_after(module: cst.Module, statement: Statement, code: str) -> cst.Module:
    """The module with the statements of `code` below `statement`, at its indentation.

    `statement` is found by identity and must stand on lines of its own: ValueError if not. Statements other than those
    that contain it stay the same objects, so that they can be used in the next call.
    """
    return _insert(module, statement, code, offset=1)


def insert_before(module: cst.Module, statement: Statement, code: str) -> cst.Module:
    """Like insert_after, but above `statement` and above the comments that belong to it."""
    return _insert(module, statement, code, offset=0)


def replace(module: cst.Module, old: cst.CSTNode, new: cst.CSTNode) -> cst.Module:
    """The module with `new` where `old` was, found by identity; nodes that do not contain it stay the same objects.

    Raises ValueError if `old` is not in the module.
    """
    path = path_to(module, old)
    if not path:
        raise ValueError(f"not in this module: {code_of(module, old)!r}")
    return module.visit(_Replace(path, new))


def path_to(node: cst.CSTNode, target: cst.CSTNode) -> list[cst.CSTNode]:
    """The nodes from `node` down to `target`, both included; none if target is not below node."""
    if node is target:
        return [node]
    for value in (getattr(node, field.name) for field in fields(node)):
        for child in value if isinstance(value, list | tuple) else (value,):
            if isinstance(child, cst.CSTNode) and (rest := path_to(child, target)):
                return [node, *rest]
    return []


def line_of(module: cst.Module, node: cst.CSTNode) -> int:
    """The line, from 1, on which the node begins; comments above it do not count. KeyError if it is not in module."""
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    return positions[node].start.line


def code_of(module: cst.Module, node: cst.CSTNode) -> str:
    """The node's code without the comments above it, without its indentation and without its last newline."""
    if isinstance(node, Statement):
        node = node.with_changes(leading_lines=())
    return module.code_for_node(node).strip()


class _Replace(cst.CSTTransformer):
    """Rebuilds the ancestors of what it replaces and nothing else."""

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
    return replace(module, block, block.with_changes(body=[*block.body[:at], *_parse(code), *block.body[at:]]))


def _parse(code: str) -> Sequence[Statement]:
    """The statements of `code`, which take on the indentation and line ends of the module they are put into."""
    return cst.parse_module(code).body


def _lead(module: cst.Module, before: Statement | None) -> list[Statement]:
    """The top-level statements above the first function, class or loop, and above `before`."""
    lead = []
    for statement in module.body:
        if statement is before or _ends_imports(statement):
            break
        lead.append(statement)
    return lead


def _ends_imports(statement: Statement) -> bool:
    if isinstance(statement, cst.SimpleStatementLine | cst.Try):
        return False
    return not isinstance(statement, cst.If) or bool(m.findall(statement.test, m.Name("__name__")))


def _import_index(module: cst.Module, before: Statement | None) -> int:
    index = 0
    for at, statement in enumerate(_lead(module, before)):
        is_docstring = at == 0 and m.matches(statement, _DOCSTRING)
        if is_docstring or m.matches(statement, _FUTURE) or m.findall(statement, m.Import() | m.ImportFrom()):
            index = at + 1
    return index


def _imports_all(line: Statement, wanted: cst.SimpleStatementLine) -> bool:
    """Whether the line imports every name that `wanted` imports, from the same module."""
    if not m.matches(line, _IMPORT_LINE):
        return False
    have = set().union(*map(_imported, line.body))
    return set().union(*map(_imported, wanted.body)) <= have


def _imported(statement: cst.Import | cst.ImportFrom) -> set[tuple[str, ...]]:
    """Each name of an import with where it is from and what it is called here."""
    nothing = cst.Module(body=[])
    origin = ""
    if isinstance(statement, cst.ImportFrom):
        origin = "." * len(statement.relative) + (nothing.code_for_node(statement.module) if statement.module else "")
    if isinstance(statement.names, cst.ImportStar):
        return {(origin, "*", "*")}
    return {(origin, alias.evaluated_name, alias.evaluated_alias or alias.evaluated_name) for alias in statement.names}
