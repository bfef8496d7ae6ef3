"""Finds the form in which a file imports a module of a checkout's folder: relative, with the package's name, or plain."""

import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from patches.code.names import find_module, imports
from patches.code.source import Sources

Folder = tuple[str, ...]  # the parts of a folder's path; none for the checkout itself


class Evidence(NamedTuple):
    """An import of one file of the checkout by another; its dotted name, or its leading dots, start from the folder `start`."""

    importer: str
    imported: str
    relative: bool
    start: Folder


def import_from(sources: Sources, path: str, folder: str, module: str, name: str) -> str:
    """The statement that imports `name` from `module` in `folder` into `path`, in the form of the file's own imports.

    Without any, others' imports of the file or of its folder show the form. Raises ValueError where none do, or they differ.
    """
    evidence, own, target = list(_evidence(sources)), _folder(path), (*PurePosixPath(folder).parts, module)
    packages = {each.start for each in evidence if each.relative}
    packages |= {_folder(path) for path in sources if path.endswith("__init__.py")}
    for known in (
        [each for each in evidence if each.importer == path],
        [each for each in evidence if each.imported == path],
        [each for each in evidence if _folder(each.imported) == own],
    ):
        forms = _forms(known, packages, own, target)
        if len(forms) > 1:
            raise ValueError(f"the checkout imports it in several ways: {', '.join(sorted(forms))}")
        if forms:
            return f"from {forms.pop()} import {name}"
    if own != target[:-1]:
        raise ValueError(f"no import in the checkout shows how {path} can import from {folder or 'its root folder'}")
    return f"from {module} import {name}"


def _forms(known: list[Evidence], packages: set[Folder], own: Folder, target: Folder) -> set[str]:
    """The dotted names for `target` that the known imports allow; the relative one alone if it is allowed."""
    shared = next(own[:count] for count in range(len(own), -1, -1) if own[:count] == target[:-1][:count])
    if any(each.relative for each in known) and shared in packages:
        return {"." * (1 + len(own) - len(shared)) + ".".join(target[len(shared):])}
    starts = {each.start for each in known if not each.relative and target[: len(each.start)] == each.start}
    return {".".join(target[len(start):]) for start in starts if all(part.isidentifier() for part in target[len(start):])}


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
