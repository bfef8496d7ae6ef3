"""Reads a checkout: the bytes and the syntax tree of each Python file that belongs to it."""

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from patches.code.source import Source
from patches.problems import CheckoutError
from patches.tree.record import STORE

LARGEST = 5_000_000  # bytes; a larger .py file holds data and not a model
_FOREIGN = ("__pycache__", "node_modules", "stable_params")
_OURS = {"stable_params", "stable_scales"}


@dataclass(frozen=True)
class Checkout:
    """`sources` has each file by its path relative to `root`; `notes` says what was not read."""

    root: Path
    sources: dict[str, Source]
    notes: tuple[str, ...] = ()


def find_root(path: str | os.PathLike[str]) -> Path:
    """The folder, with links resolved; raises CheckoutError for no folder and for a part of a patched checkout."""
    if not Path(path).is_dir():
        raise CheckoutError(f"{path}: there is no such folder")
    root = Path(path).resolve()
    for above in root.parents:
        if (above / STORE).exists():
            raise CheckoutError(f"{path} is part of {above}, which has been patched as a whole: give that folder")
    return root


def read_checkout(path: str | os.PathLike[str]) -> Checkout:
    """Raises CheckoutError for a tree that holds no Python 3 code, cannot be read, or was patched by hand."""
    root = find_root(path)
    names = list(_python_files(root))
    if not names:
        raise CheckoutError(f"{path}: not a Python tree, there is no .py file in it")
    large = [name for name in names if (root / name).stat().st_size > LARGEST]
    sources = {name: Source(name, _read(root, name)) for name in names if name not in large}
    _refuse_patched_by_hand(sources)
    return Checkout(root, sources, tuple(f"{name}: not read, it is larger than 5 MB" for name in large))


def _read(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise CheckoutError(f"{name}: cannot be read: {error.strerror}") from None


def _python_files(root: Path) -> Iterator[str]:
    """Paths relative to `root`. Hidden folders, environments, stable_params and symbolic links are left out."""
    for folder, folders, files in os.walk(root, onerror=_refuse_unreadable):
        for name in sorted(folders + files):
            _check_entry(root, Path(folder, name))
        folders[:] = sorted(name for name in folders if _is_entered(Path(folder, name)))
        for path in (Path(folder, name) for name in sorted(files)):
            if path.suffix == ".py" and path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def _is_entered(folder: Path) -> bool:
    is_foreign = folder.name.startswith(".") or folder.name in _FOREIGN or folder.is_symlink()
    return not is_foreign and not _is_environment(folder)


def _is_environment(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("pyvenv.cfg", "conda-meta"))


def _check_entry(root: Path, path: Path) -> None:
    if path.name == STORE and path.parent != root:
        place = path.parent.relative_to(root).as_posix()
        raise CheckoutError(f"{place} has been patched on its own: give that folder, or --revert it first")
    if path.is_symlink() and not path.name.startswith(".") and not _leads_inside(path, root) and _holds_python(path):
        raise CheckoutError(f"{path.relative_to(root).as_posix()}: a symbolic link that leads out of the checkout or "
                            "nowhere; only files inside are changed: put a copy in its place, or remove it")


def _leads_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        return False


def _holds_python(link: Path) -> bool:
    return link.suffix == ".py" or (not _is_environment(link) and any(link.rglob("*.py")))


def _refuse_unreadable(error: OSError) -> None:
    raise CheckoutError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def _refuse_patched_by_hand(sources: Mapping[str, Source]) -> None:
    """Raises CheckoutError where the code imports what this plugin adds, or has the string '--sigma_param'."""
    for path, source in sources.items():
        if not any(word in source.text for word in {*_OURS, "--sigma_param"}):
            continue
        lines = [node.lineno for node in source.nodes if _is_ours(node)]
        if lines:
            raise CheckoutError(f"{path}:{min(lines)}: this looks patched by hand, there is no record of --write\n"
                                f"    | {source.lines[min(lines) - 1].strip()}\n"
                                "    a tree that uses stable_params is left alone; patch a clean one")


def _is_ours(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(_OURS & set(alias.name.split(".")) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return bool(_OURS & {*(node.module or "").split("."), *(alias.name for alias in node.names)})
    return isinstance(node, ast.Constant) and node.value == "--sigma_param"
