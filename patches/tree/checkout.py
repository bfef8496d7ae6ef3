"""Reads a checkout: every Python file's bytes and syntax tree."""

import os
from dataclasses import dataclass
from pathlib import Path

import libcst as cst

from patches.tree.by_hand import refuse_patched_by_hand
from patches.tree.errors import CheckoutError
from patches.tree.manifest import STORE
from patches.tree.source_file import parse_source
from patches.tree.walk import python_files

LARGEST = 5_000_000  # bytes; a larger .py file holds data, not a model


@dataclass(frozen=True)
class Checkout:
    """`sources` and `originals` have the same keys, paths relative to `root`; `notes` says what is left out."""

    root: Path
    sources: dict[str, cst.Module]
    originals: dict[str, bytes]
    notes: tuple[str, ...] = ()


def find_root(path: str | os.PathLike[str]) -> Path:
    """The folder, links resolved; raises CheckoutError if there is none, or a folder above it has been patched."""
    if not Path(path).exists():
        raise CheckoutError(f"{path}: there is no such folder")
    if not Path(path).is_dir():
        raise CheckoutError(f"{path}: not a folder; give the checkout's folder")
    root = Path(path).resolve()
    for above in root.parents:
        if (above / STORE).exists():
            raise CheckoutError(f"{path} is part of {above}, which has been patched as a whole: give that folder")
    return root


def read_checkout(path: str | os.PathLike[str]) -> Checkout:
    """Raises CheckoutError for what is no tree of Python 3 code, leads out of its folder or was patched by hand."""
    root = find_root(path)
    names = list(python_files(root))
    if not names:
        raise CheckoutError(f"{path}: not a Python tree, there is no .py file in it")
    large = [name for name in names if (root / name).stat().st_size > LARGEST]
    originals = {name: _read(root, name) for name in names if name not in large}
    sources = {name: parse_source(name, data) for name, data in originals.items()}
    refuse_patched_by_hand(originals)
    notes = tuple(f"{name}: not read, it is larger than 5 MB" for name in large)
    return Checkout(root, sources, originals, notes)


def _read(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise CheckoutError(f"{name}: cannot be read: {error.strerror}") from None
