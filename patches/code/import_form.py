"""Finds the form in which a file imports a module of a checkout's folder: relative, with the package's name, or plain."""

import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from patches.code.names import find_module, imports
from patches.code.source import Sources

Folder = tuple[str, ...]  # the parts of a folder's path; none for the checkout itself


class Evidence(NamedTuple):
    """An import of one file of the checkout by another, both as paths.

    `start` is the folder that the dotted name starts from: the one on the search path, or the one that the leading dots
    of a relative import mean.
    """

    importer: str
    imported: str
    relative: bool
    start: Folder


def import_from(sources: Sources, path: str, folder: str, module: str, name: str) -> str:
    """The statement that imports `name` from `module`, which lies in `folder`, into the file `path`.

    It has the form of the file's own imports from the checkout. Without any, it has the form in which others import the
    file, and then the form in which they import files of its folder. Raises ValueError, with the reason, where there
    are no such imports or they differ.
    """
    evidence, own = list(_evidence(sources)), _folder(path)
    for known in (
        [each for each in evidence if each.importer == path],
        [each for each in evidence if each.imported == path],
        [each for each in evidence if _folder(each.imported) == own],
    ):
        forms = _forms(sources, known, evidence, own, (*PurePosixPath(folder).parts, module))
        if len(forms) > 1:
            raise ValueError(f"the checkout imports it in several ways: {', '.join(sorted(forms))}")
        if forms:
            return f"from {forms.pop()} import {name}"
    if own != PurePosixPath(folder).parts:
        raise ValueError(f"no import in the checkout shows how {path} can import from {folder or 'its root folder'}")
    return f"from {module} import {name}"


def _forms(sources: Sources, known: list[Evidence], evidence: list[Evidence], own: Folder, target: Folder) -> set[str]:
    """The dotted names for `target` that the known imports allow; the relative one alone if it is allowed."""
    shared = next(own[:count] for count in range(len(own), -1, -1) if own[:count] == target[:-1][:count])
    packages = {each.start for each in evidence if each.relative}
    packages |= {_folder(path) for path in sources if path.endswith("__init__.py")}
    if any(each.relative for each in known) and shared in packages:
        return {"." * (1 + len(own) - len(shared)) + ".".join(target[len(shared):])}
    starts = {each.start for each in known if not each.relative and target[: len(each.start)] == each.start}
    names = {target[len(start):] for start in starts}
    return {".".join(parts) for parts in names if all(part.isidentifier() for part in parts)}


def _folder(path: str) -> Folder:
    return PurePosixPath(path).parent.parts


def _evidence(sources: Sources) -> Iterator[Evidence]:
    for path, source in sources.items():
        for name, level in imports(source):
            found = find_module(sources, path, name, level)
            if not found or found == path:
                continue
            parts, own, place = tuple(name.split(".")), _folder(path), PurePosixPath(found).with_suffix("").parts
            place = place[:-1] if place[-1] == "__init__" else place
            if level:
                yield Evidence(path, found, True, own[: len(own) - level + 1])
            elif place[len(place) - len(parts):] == parts and parts[0] not in sys.stdlib_module_names:
                yield Evidence(path, found, False, place[: len(place) - len(parts)])
