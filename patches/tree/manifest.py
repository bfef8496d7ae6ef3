"""The record of what was written into a checkout, kept beside the originals."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from patches.tree.errors import CheckoutError

STORE = ".stable_params_patch"
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One file: sha256 of its bytes before (None if it was created) and after, and the mode bits it had before."""

    path: str
    before: str | None
    after: str
    created: bool
    mode: int | None

    def is_patched(self, root: Path) -> bool:
        return file_digest(root / self.path) == self.after

    def is_original(self, root: Path) -> bool:
        return file_digest(root / self.path) == self.before


@dataclass(frozen=True)
class Manifest:
    """`folders` were created too, outer ones first."""

    files: tuple[Entry, ...]
    folders: tuple[str, ...]

    def not_as_written(self, root: Path) -> list[str]:
        return [entry.path for entry in self.files if not entry.is_patched(root)]

    def edited(self, root: Path) -> list[str]:
        """The files that are neither what was written nor what they were before."""
        return [entry.path for entry in self.files if not entry.is_patched(root) and not entry.is_original(root)]

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, "files": [asdict(entry) for entry in self.files],
                           "folders": list(self.folders)}, indent=1) + "\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str | None:
    """sha256 of a regular file, None where there is nothing, and a word that is no digest for anything else."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "not a file"
    try:
        return digest(path.read_bytes())
    except FileNotFoundError:
        return None


def read_manifest(root: Path) -> Manifest | None:
    """None where nothing was written; raises CheckoutError for a record that cannot be relied on."""
    store = root / STORE
    if not store.exists():
        return None
    try:
        record = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckoutError(f"{store} has no manifest.json: a --write was cut off before it changed anything; "
                            "remove that folder") from None
    except (OSError, ValueError) as error:
        raise CheckoutError(f"{store}/manifest.json cannot be read: {error}") from None
    return _from_record(store, record)


def _from_record(store: Path, record: dict) -> Manifest:
    try:
        if record["format"] != _FORMAT:
            raise CheckoutError(f"{store}/manifest.json has format {record['format']!r}; this version reads {_FORMAT}")
        manifest = Manifest(tuple(Entry(**entry) for entry in record["files"]), tuple(record["folders"]))
        _refuse_paths_outside(store, [*(entry.path for entry in manifest.files), *manifest.folders])
    except (KeyError, TypeError) as error:
        raise CheckoutError(f"{store}/manifest.json is not one that --write makes: {error!r}") from None
    return manifest


def _refuse_paths_outside(store: Path, paths: Iterable[str]) -> None:
    root = store.parent.resolve()
    for path in paths:
        parent = (root / path).parent.resolve()
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not parent.is_relative_to(root):
            raise CheckoutError(f"{store}/manifest.json names {path!r}, which is not inside {root}")
