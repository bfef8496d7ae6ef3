"""Which Python files belong to a checkout, and which links lead out of it."""

import os
from collections.abc import Iterator
from pathlib import Path

from patches.tree.errors import CheckoutError
from patches.tree.manifest import STORE

_FOREIGN = ("__pycache__", "node_modules")
_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")


def python_files(root: Path) -> Iterator[str]:
    """Paths relative to `root`, sorted within each folder; hidden folders, environments and stable_params are left out.

    Raises CheckoutError for a folder that cannot be read, for a link to Python code outside `root`, and for a folder
    below `root` that has been patched on its own.
    """
    for folder, folders, files in os.walk(root, onerror=_refuse_unreadable):
        for name in sorted(folders + files):
            _check_entry(root, Path(folder, name))
        folders[:] = sorted(name for name in folders if is_entered(Path(folder, name)))
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def is_entered(folder: Path) -> bool:
    """Whether the folder's code is part of the checkout."""
    if folder.name.startswith(".") or folder.name in _FOREIGN or folder.is_symlink():
        return False
    if folder.name == "stable_params" and (folder / "__init__.py").exists():
        return False
    return not any((folder / name).exists() for name in _ENVIRONMENT)


def _check_entry(root: Path, path: Path) -> None:
    if path.name == STORE and path.parent != root:
        place = path.parent.relative_to(root).as_posix()
        raise CheckoutError(f"{place} has been patched on its own: give that folder, or --revert it first")
    if path.is_symlink() and not path.name.startswith("."):
        _check_link(root, path)


def _check_link(root: Path, link: Path) -> None:
    name = link.relative_to(root).as_posix()
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        if link.suffix == ".py":
            raise CheckoutError(f"{name}: a symlink that leads nowhere or in a circle; remove it") from None
        return
    if target.is_relative_to(root):
        return  # what it leads to is met on its own
    if (link.suffix == ".py" and target.is_file()) or (target.is_dir() and _holds_python(link, target)):
        raise CheckoutError(f"{name}: a symlink out of the tree, to {target}; only files inside are changed: "
                            "put a copy in its place, or remove it")


def _holds_python(link: Path, target: Path) -> bool:
    if link.name in _FOREIGN or any((target / name).exists() for name in _ENVIRONMENT):
        return False
    for folder, folders, files in os.walk(target):
        folders[:] = [name for name in folders if is_entered(Path(folder, name))]
        if any(name.endswith(".py") for name in files):
            return True
    return False


def _refuse_unreadable(error: OSError) -> None:
    raise CheckoutError(f"{error.filename}: the folder cannot be read: {error.strerror}")
