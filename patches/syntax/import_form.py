"""How a file of a checkout has to import a module that is put into one of its folders: relative, qualified or plain."""

import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

import libcst as cst
from libcst import matchers as m
from libcst.helpers import get_full_name_for_node

from patches.syntax.names import find_module
from patches.sources import Sources

Folder = tuple[str, ...]  # the parts of a folder's path, none for the checkout itself


class Evidence(NamedTuple):
    """An import of one file of the checkout by another; `root` is the folder on the search path, None if relative.

    `top` is the folder that a relative import starts from.
    """

    importer: str
    imported: str
    root: Folder | None
    top: Folder


def import_from(sources: Sources, path: str, folder: str, module: str, name: str) -> str:
    """The statement that imports `name` from `module`, which lies in `folder`, into the file `path`.

    It has the form of the file's own imports from the checkout; without any that of the imports of the file by others,
    else of its folder's files. Raises ValueError, saying why, where these do not tell or differ.
    """
    everything = list(_evidence(sources))
    same = [e for e in everything if PurePosixPath(e.imported).parent == PurePosixPath(path).parent]
    for known in ([e for e in everything if e.importer == path], [e for e in everything if e.imported == path], same):
        forms = _forms(sources, known, everything, path, folder, module)
        if len(forms) > 1:
            raise ValueError(f"the checkout imports it in several ways: {', '.join(sorted(forms))}")
        if forms:
            return f"from {forms.pop()} import {name}"
    if PurePosixPath(path).parent != PurePosixPath(folder):
        raise ValueError(f"no import in the checkout shows how {path} can import from {folder or 'its root folder'}")
    return f"from {module} import {name}"


def _forms(
    sources: Sources, known: list[Evidence], everything: list[Evidence], path: str, folder: str, module: str
) -> set[str]:
    """The dotted names that the evidence allows; the relative one alone if it is allowed."""
    start, target = PurePosixPath(path).parent.parts, PurePosixPath(folder).parts
    shared = _shared(start, target)
    packages = {e.top for e in everything if e.root is None}
    packages |= {_folder(p) for p in sources if p.endswith("__init__.py")}
    if any(e.root is None for e in known) and shared in packages:
        dots = "." * (1 + len(start) - len(shared))
        return {dots + ".".join([*target[len(shared):], module])}
    roots = {e.root for e in known if e.root is not None and target[: len(e.root)] == e.root}
    names = {(*target[len(root):], module) for root in roots}
    return {".".join(parts) for parts in names if all(part.isidentifier() for part in parts)}


def _shared(one: Folder, other: Folder) -> Folder:
    length = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return one[:length]


def _folder(path: str) -> Folder:
    return PurePosixPath(path).parent.parts


def _evidence(sources: Sources) -> Iterator[Evidence]:
    for path, module in sources.items():
        for statement in _imports(module):
            for dotted, level in _targets(statement):
                found = find_module(sources, path, dotted, level)
                if found and found != path:
                    yield from _from_target(path, found, dotted, level)


@lru_cache(maxsize=4096)
def _imports(module: cst.Module) -> list[cst.Import | cst.ImportFrom]:
    return list(m.findall(module, m.Import() | m.ImportFrom()))


def _targets(statement: cst.Import | cst.ImportFrom) -> Iterator[tuple[str, int]]:
    """Each module that the statement may mean, with the number of leading dots."""
    if isinstance(statement, cst.Import):
        yield from ((alias.evaluated_name, 0) for alias in statement.names)
        return
    origin = get_full_name_for_node(statement.module) if statement.module else ""
    if origin:
        yield origin, len(statement.relative)
    if not isinstance(statement.names, cst.ImportStar):
        for alias in statement.names:
            yield f"{origin}.{alias.evaluated_name}".lstrip("."), len(statement.relative)


def _from_target(path: str, found: str, dotted: str, level: int) -> Iterator[Evidence]:
    parts, start = tuple(dotted.split(".")), _folder(path)
    where = PurePosixPath(found)
    place = where.parent.parts if where.name == "__init__.py" else where.with_suffix("").parts
    if level:
        yield Evidence(path, found, None, start[: len(start) - level + 1])
    elif place[len(place) - len(parts):] == parts and parts[0] not in sys.stdlib_module_names:
        yield Evidence(path, found, place[: len(place) - len(parts)], ())
