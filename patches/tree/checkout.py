"""Reads a checkout: the bytes and the syntax tree of each Python file that belongs to it."""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from patches.code.source import Source
from patches.problems import CheckoutError
from patches.tree.record import STORE

LARGEST = 5_000_000  # bytes; a larger .py file holds data and not a model
_FOREIGN = ("__pycache__", "node_modules", "stable_params")
_OURS = {"stable_params", "stable_scales", "--sigma_param"}


@dataclass(frozen=True)
class Checkout:
    """The files by their paths relative to `root`, and what is left alone."""

    root: Path
    sources: dict[str, Source] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # the errors of files that are not Python 3
    notes: list[str] = field(default_factory=list)


def find_root(path: str | os.PathLike[str]) -> Path:
    """The folder, with links resolved; raises CheckoutError for no folder and for a part of a patched checkout."""
    if not path or not Path(path).is_dir():
        raise CheckoutError(f"{path or 'an empty path'}: there is no such folder")
    root = Path(path).resolve()
    for above in root.parents:
        if (above / STORE).exists():
            raise CheckoutError(f"{path} is part of {above}, which has been patched as a whole: give that folder")
    return root


def read_checkout(path: str | os.PathLike[str]) -> Checkout:
    """Raises CheckoutError for a tree that holds no Python code, cannot be read, or was patched by hand."""
    checkout = Checkout(find_root(path))
    for file in _python_files(checkout):
        name = file.relative_to(checkout.root).as_posix()
        try:
            if file.stat().st_size > LARGEST:
                checkout.notes.append(f"{name}: not read, it is larger than 5 MB")
                continue
            checkout.sources[name] = Source(name, file.read_bytes())
        except OSError as error:
            raise CheckoutError(f"{name}: cannot be read: {error.strerror}") from None
        except CheckoutError as error:
            checkout.broken[name] = str(error)
        else:
            _refuse_patched_by_hand(checkout.sources[name])
    if not checkout.sources:
        raise CheckoutError(next(iter(checkout.broken.values()), f"{path}: not a Python tree, there is no .py file in it"))
    return checkout


def _python_files(checkout: Checkout) -> Iterator[Path]:
    """Hidden folders, environments and stable_params are left out; so are symbolic links, with a note if they lead outside."""
    for folder, folders, files in os.walk(checkout.root, onerror=_refuse_unreadable):
        if STORE in folders and Path(folder) != checkout.root:
            raise CheckoutError(f"{folder} has been patched on its own: give that folder, or --revert it first")
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _FOREIGN)
        for path in sorted(Path(folder, name) for name in [*folders, *files]):
            is_python = path.suffix == ".py" and path.is_file()
            if path.is_symlink() and (is_python or path.is_dir()) and not path.resolve().is_relative_to(checkout.root):
                checkout.notes.append(f"{path.relative_to(checkout.root)}: not read, it is a link that leads out of the checkout")
            elif is_python and not path.is_symlink():
                yield path
            elif path.is_dir() and any((path / name).exists() for name in ("pyvenv.cfg", "conda-meta")):
                folders.remove(path.name)


def _refuse_unreadable(error: OSError) -> None:
    raise CheckoutError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def _refuse_patched_by_hand(source: Source) -> None:
    """Raises CheckoutError where the code imports what this plugin adds, or has the string '--sigma_param'."""
    lines = [node.lineno for node in source.nodes if _is_ours(node)] if any(word in source.text for word in _OURS) else []
    if lines:
        raise CheckoutError(f"{source.path}:{min(lines)}: this looks patched by hand, there is no record of --write\n"
                            f"    | {source.lines[min(lines) - 1].strip()}\n"
                            "    a tree that uses stable_params is left alone; patch a clean one")


def _is_ours(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        return bool(_OURS & {part for name in names for part in name.split(".")})
    return isinstance(node, ast.Constant) and node.value == "--sigma_param"
