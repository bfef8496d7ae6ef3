"""Finds the function of the checkout that a call means: follows names through the imports of a module."""

from collections.abc import Iterator
from pathlib import PurePosixPath

import libcst as cst
from libcst import matchers as m
from libcst.helpers import get_full_name_for_node

from patches.problems import Sources

Place = tuple[str, str]  # the path of a module and the qualified name of a function in it


def functions(module: cst.Module) -> dict[str, cst.FunctionDef]:
    """The module's functions and its classes' methods by qualified name (`draw`, `DecBlock.sample`)."""
    found = {}
    for statement in module.body:
        if isinstance(statement, cst.FunctionDef):
            found[statement.name.value] = statement
        elif isinstance(statement, cst.ClassDef):
            found |= {f"{statement.name.value}.{method.name.value}": method for method in methods(statement)}
    return found


def methods(owner: cst.ClassDef) -> list[cst.FunctionDef]:
    """The functions in a class's body, in order."""
    return [statement for statement in owner.body.body if isinstance(statement, cst.FunctionDef)]


def calls(node: cst.CSTNode) -> list[cst.Call]:
    """All calls in a node, in the order of the text."""
    return list(m.findall(node, m.Call()))


def visible(sources: Sources, path: str) -> dict[str, Place]:
    """The functions of the checkout by each name, or dotted name, that a module has for them."""
    known = {name: (path, name) for name in functions(sources[path])}
    lines = (statement for statement in sources[path].body if isinstance(statement, cst.SimpleStatementLine))
    for statement in (small for line in lines for small in line.body):
        if isinstance(statement, cst.Import | cst.ImportFrom):
            known |= dict(_imported(sources, path, statement))
    return known


def find_module(sources: Sources, path: str, dotted: str, level: int = 0) -> str | None:
    """The file of the checkout that `import dotted` means in the file `path`; None for any other module.

    `level` counts leading dots. The checkout may itself lie in a package, or put a folder on the search path. So without
    dots it is the file whose path ends in the dotted name. Of several such files it is the one beside `path`, then the
    one nearest to the root.
    """
    parts, folder = dotted.split(".") if dotted else [], PurePosixPath(path).parent
    if level:
        base = folder.parents[level - 2] if level > 1 else folder
        return next((file for file in _files(base, parts) if file in sources), None)
    ends = [file for skipped in range(len(parts)) for file in _files(PurePosixPath(), parts[skipped:])]
    exact = [file for file in _files(folder, parts) + ends[:2] if file in sources]
    below = [file for file in sources if any(file.endswith("/" + end) for end in ends[:2])]
    shortened = [file for file in ends[2:] if file in sources and file != path]
    return next(iter(exact + sorted(below, key=lambda file: file.count("/")) + shortened), None)


def _files(folder: PurePosixPath, parts: list[str]) -> list[str]:
    base = folder.joinpath(*parts)
    return [str(base / "__init__.py")] + ([str(base.with_name(base.name + ".py"))] if parts else [])


def _imported(sources: Sources, path: str, statement: cst.Import | cst.ImportFrom) -> Iterator[tuple[str, Place]]:
    """The names that an import brings, each with its function."""
    is_from = isinstance(statement, cst.ImportFrom)
    level = len(statement.relative) if is_from else 0
    dotted = get_full_name_for_node(statement.module) if is_from and statement.module else ""
    origin = find_module(sources, path, dotted, level) if is_from else None
    if isinstance(statement.names, cst.ImportStar):
        yield from ((name, (origin, name)) for name in functions(sources[origin])) if origin else ()
        return
    for alias in statement.names:
        name, shown = alias.evaluated_name, alias.evaluated_alias or alias.evaluated_name
        module = find_module(sources, path, f"{dotted}.{name}" if dotted else name, level)
        if origin and name in functions(sources[origin]):
            yield shown, (origin, name)
        elif module and module != origin:
            yield from ((f"{shown}.{each}", (module, each)) for each in functions(sources[module]))
