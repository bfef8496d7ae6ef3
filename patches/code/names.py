"""Finds the function of the checkout that a name means: follows names through the imports of a module."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from patches.code.source import Source, Sources

Place = tuple[str, str]  # the path of a module and the qualified name of a function in it


def functions(source: Source) -> dict[str, ast.FunctionDef]:
    """The module's functions and its classes' methods by qualified name (`draw`, `DecBlock.sample`)."""
    found = {}
    for statement in source.tree.body:
        if isinstance(statement, ast.FunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.ClassDef):
            found |= {f"{statement.name}.{method.name}": method for method in methods(statement)}
    return found


def methods(owner: ast.ClassDef) -> list[ast.FunctionDef]:
    return [statement for statement in owner.body if isinstance(statement, ast.FunctionDef)]


def calls(node: ast.AST) -> list[ast.Call]:
    """All calls in a node, in the order of the text."""
    found = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def dotted(node: ast.AST | None) -> str:
    """`a.b.c` for such an expression; "" for any other."""
    if isinstance(node, ast.Attribute):
        return f"{owner}.{node.attr}" if (owner := dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def visible(sources: Sources, path: str) -> dict[str, Place]:
    """The functions of the checkout by each name, or dotted name, that a module has for them."""
    known = {name: (path, name) for name in functions(sources[path])}
    for node in sources[path].nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= dict(_imported(sources, path, node))
    return known


def imports(source: Source) -> list[tuple[str, int]]:
    """Each dotted name that may be an imported module, with the number of its leading dots."""
    found = []
    for node in source.nodes:
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module, node.level)] if node.module else []
            names = [alias.name for alias in node.names if alias.name != "*"]
            found += [(f"{node.module}.{name}" if node.module else name, node.level) for name in names]
    return found


def import_graph(sources: Sources, others: Iterable[str]) -> dict[str, set[str]]:
    """The files of the checkout that each module imports; `others` are files that may be imported but cannot be read."""
    paths = {**sources, **dict.fromkeys(others)}
    return {path: {found for name, level in imports(source) if (found := find_module(paths, path, name, level))}
            for path, source in sources.items()}  # fmt: skip


def reached(graph: Mapping[str, set[str]], starts: Iterable[str]) -> set[str]:
    """The files `starts`, and all that they import, directly or not."""
    found, left = set(), list(starts)
    while left:
        if (path := left.pop()) not in found:
            found.add(path)
            left += graph.get(path, ())
    return found


def find_module(paths: Mapping[str, object], path: str, name: str, level: int = 0) -> str | None:
    """The file of the checkout that `import name` means in the file `path`; None for any other module.

    `level` counts leading dots. Without dots it is the file whose path ends in the dotted name, for the checkout may lie in a
    package, or put a folder on the search path. Of several it is the one beside `path`, then the one nearest to the root.
    """
    parts, folder = name.split(".") if name else [], PurePosixPath(path).parent
    if level:
        base = folder.parents[level - 2] if level > 1 else folder
        return next((file for file in _files(base, parts) if file in paths), None)
    ends = [file for skipped in range(len(parts)) for file in _files(PurePosixPath(), parts[skipped:])]
    exact = [file for file in _files(folder, parts) + ends[:2] if file in paths]
    below = [file for file in paths if file.endswith(("/" + ends[0], "/" + ends[1]))]
    shortened = [file for file in ends[2:] if file in paths and file != path]
    return next(iter(exact + sorted(below, key=lambda file: file.count("/")) + shortened), None)


def _files(folder: PurePosixPath, parts: list[str]) -> list[str]:
    base = folder.joinpath(*parts)
    return [str(base / "__init__.py")] + ([str(base.with_name(base.name + ".py"))] if parts else [])


def _imported(sources: Sources, path: str, statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Place]]:
    """The names that an import brings, each with its function."""
    is_from = isinstance(statement, ast.ImportFrom)
    level, module = (statement.level, statement.module or "") if is_from else (0, "")
    origin = find_module(sources, path, module, level) if is_from and (module or level) else None
    for alias in statement.names:
        if alias.name == "*":
            yield from ((name, (origin, name)) for name in functions(sources[origin])) if origin else ()
            continue
        shown = alias.asname or alias.name
        found = find_module(sources, path, f"{module}.{alias.name}" if module else alias.name, level)
        if origin and alias.name in functions(sources[origin]):
            yield shown, (origin, alias.name)
        elif found and found != origin:
            yield from ((f"{shown}.{each}", (found, each)) for each in functions(sources[found]))
