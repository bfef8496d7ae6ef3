"""Which function of the checkout a call means: names followed through the imports of a module."""

from pathlib import PurePosixPath

import libcst as cst
from libcst import matchers as m
from libcst.helpers import get_full_name_for_node

from patches.sources import Sources

Place = tuple[str, str]  # path of a module and the qualified name of a function in it


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
    """What each name, or dotted name, means in a module: a function of the checkout, its own or imported."""
    known = {name: (path, name) for name in functions(sources[path])}
    for statement in _imports(sources[path]):
        if isinstance(statement, cst.ImportFrom):
            known |= _from(sources, path, statement)
        else:
            known |= _import(sources, path, statement)
    return known


def find_module(sources: Sources, path: str, dotted: str, level: int = 0) -> str | None:
    """The checkout's module that `import dotted` means in `path`; None for others. `level` counts leading dots.

    A checkout may itself lie in a package, or put a folder on the search path: without dots, the one file whose path
    ends in the dotted name is meant; of several, the one beside `path`, then the one nearest to the root.
    """
    parts = dotted.split(".") if dotted else []
    folder = PurePosixPath(path).parent
    if level:
        base = folder.parents[level - 2] if level > 1 else folder
        return next((p for p in _files(base, parts) if p in sources), None)
    ends = [p for n in range(len(parts)) for p in _files(PurePosixPath(), parts[n:])]
    exact = [p for p in _files(folder, parts) + _files(PurePosixPath(), parts) if p in sources]
    suffixed = [p for p in sources if any(p.endswith("/" + end) for end in ends[:2])]
    shortened = [p for p in ends[2:] if p in sources and p != path]
    return next(iter(exact + sorted(suffixed, key=lambda p: p.count("/")) + shortened), None)


def _files(folder: PurePosixPath, parts: list[str]) -> list[str]:
    base = folder.joinpath(*parts)
    return [str(base / "__init__.py")] + ([str(base.with_name(base.name + ".py"))] if parts else [])


def _imports(module: cst.Module) -> list[cst.Import | cst.ImportFrom]:
    lines = (statement for statement in module.body if isinstance(statement, cst.SimpleStatementLine))
    return [small for line in lines for small in line.body if isinstance(small, cst.Import | cst.ImportFrom)]


def _from(sources: Sources, path: str, statement: cst.ImportFrom) -> dict[str, Place]:
    dotted, level = get_full_name_for_node(statement.module) if statement.module else "", len(statement.relative)
    origin = find_module(sources, path, dotted, level)
    if isinstance(statement.names, cst.ImportStar):
        return {name: (origin, name) for name in functions(sources[origin])} if origin else {}
    known = {}
    for alias in statement.names:
        name, shown = alias.evaluated_name, alias.evaluated_alias or alias.evaluated_name
        submodule = find_module(sources, path, f"{dotted}.{name}" if dotted else name, level)
        if origin and name in functions(sources[origin]):
            known[shown] = (origin, name)
        elif submodule and submodule != origin:
            known |= _members(sources, shown, submodule)
    return known


def _import(sources: Sources, path: str, statement: cst.Import) -> dict[str, Place]:
    known = {}
    for alias in statement.names:
        origin = find_module(sources, path, alias.evaluated_name)
        if origin:
            known |= _members(sources, alias.evaluated_alias or alias.evaluated_name, origin)
    return known


def _members(sources: Sources, shown: str, origin: str) -> dict[str, Place]:
    return {f"{shown}.{name}": (origin, name) for name in functions(sources[origin])}
