"""Whether changes can be written, asked before anything is."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from patches.tree.change import Change
from patches.tree.errors import CheckoutError


def check_creations(root: Path, changes: Sequence[Change]) -> None:
    """Raises CheckoutError, naming every one, if a file to be created is there already."""
    there = [change.path for change in changes if change.created and os.path.lexists(root / change.path)]
    if there:
        raise CheckoutError(f"would overwrite {', '.join(there)}, not from this plugin: rename or remove what is there")


def check_targets(root: Path, changes: Sequence[Change]) -> None:
    """Raises CheckoutError, naming every one, if a file is read-only, changed since it was read, or is in the way."""
    check_creations(root, changes)
    stale = [c.path for c in changes if not c.created and (root / c.path).read_bytes() != c.before]
    if stale:
        raise CheckoutError(f"{', '.join(stale)} changed while it was read: start again")
    paths = {root / change.path for change in changes if not change.created}
    paths |= {existing_folder((root / change.path).parent) for change in changes} | {root}
    locked = sorted(str(path) for path in paths if not _is_writable(path))
    if locked:
        raise CheckoutError(f"no permission to write {', '.join(locked)}: chmod u+w, then start again")


def existing_folder(folder: Path) -> Path:
    """The folder itself or the nearest one above it that is there."""
    return folder if folder.exists() else existing_folder(folder.parent)


def _is_writable(path: Path) -> bool:
    """The owner's bit counts too: it says what is wanted even where the system lets root write everything."""
    return bool(path.stat().st_mode & stat.S_IWUSR) and os.access(path, os.W_OK)
