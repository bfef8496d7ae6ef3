"""The record of what was written into a checkout, kept beside the originals."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from patches.problems import CheckoutError

STORE = ".stable_params_patch"
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One file: the SHA-256 of its bytes before and after, and its mode bits before (None if it was created)."""

    path: str
    before: str | None
    after: str
    created: bool
    mode: int | None

    def now(self, root: Path) -> str | None:
        """The SHA-256 of the file as it is; None where nothing is, and a word for anything but a file."""
        path = root / self.path
        if path.is_symlink() or (path.exists() and not path.is_file()):
            return "not a file"
        return digest(path.read_bytes()) if path.exists() else None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def edited(root: Path, record: Sequence[Entry]) -> list[str]:
    """The files that are neither as they were written nor as they were before."""
    return [entry.path for entry in record if entry.now(root) not in (entry.before, entry.after)]


def read_record(root: Path) -> list[Entry] | None:
    """None where nothing was written; raises CheckoutError for a record that cannot be relied on."""
    store = root / STORE
    if not store.exists():
        return None
    try:
        known = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
        record = [Entry(**entry) for entry in known["files"]]
        if known["format"] != FORMAT or not all(_is_inside(root, entry.path) for entry in record):
            raise ValueError(f"it has another format than {FORMAT}, or names a path outside {root}")
    except FileNotFoundError:
        raise CheckoutError(f"{store} has no manifest.json: a --write was cut off before it changed anything; "
                            "remove that folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckoutError(f"{store}/manifest.json is not a record that this version writes: {error!r}") from None
    return record


def _is_inside(root: Path, path: str) -> bool:
    return ".." not in PurePosixPath(path).parts and (root / path).parent.resolve().is_relative_to(root.resolve())


def is_patched(root: Path, vendor: bool) -> bool:
    """Whether --write was run here; raises CheckoutError if files differ from it, or it made no copy that `vendor` asks for."""
    record = read_record(root)
    if record is None:
        return False
    different = ", ".join(entry.path for entry in record if entry.now(root) != entry.after)
    if edited(root, record):
        raise CheckoutError(f"already patched, and these files differ from what was written: {different}; "
                            "--revert --force restores the originals and drops these edits")
    if different:
        raise CheckoutError(f"patched in part, these files are as they were before --write: {different}; --revert, then start again")
    if vendor and not any("stable_params" in PurePosixPath(entry.path).parts for entry in record):
        raise CheckoutError("already patched without --vendor: --revert, then --write --vendor")
    return True
