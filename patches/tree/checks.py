"""The checks before anything is written: files in the way, permissions, and changes that git does not have."""

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from patches.problems import Change, CheckoutError


def check_creations(root: Path, changes: Sequence[Change]) -> None:
    """Raises CheckoutError, with all their names, for files to be created that exist already."""
    existing = [change.path for change in changes if change.created and os.path.lexists(root / change.path)]
    if existing:
        raise CheckoutError(f"would overwrite {', '.join(existing)}, not from this plugin: rename or remove them")


def check_targets(root: Path, changes: Sequence[Change]) -> None:
    """Raises CheckoutError, with all their names, for files that exist, are read-only, or changed since they were read."""
    check_creations(root, changes)
    stale = [change.path for change in changes if not change.created and (root / change.path).read_bytes() != change.before]
    if stale:
        raise CheckoutError(f"{', '.join(stale)} changed while the checkout was read: start again")
    paths = {root / change.path for change in changes if not change.created}
    paths |= {_existing_folder((root / change.path).parent) for change in changes} | {root}
    locked = sorted(str(path) for path in paths if not _is_writable(path))
    if locked:
        raise CheckoutError(f"no permission to write {', '.join(locked)}: chmod u+w, then start again")


def _existing_folder(folder: Path) -> Path:
    return folder if folder.exists() else _existing_folder(folder.parent)


def _is_writable(path: Path) -> bool:
    """Asks for the owner's permission bit too, because root may write files that it should leave alone."""
    return bool(path.stat().st_mode & stat.S_IWUSR) and os.access(path, os.W_OK)


def refuse_uncommitted(root: Path) -> None:
    """Raises CheckoutError if git has uncommitted changes or cannot say; a tree outside git passes."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    changes = _git_status(root)
    if changes:
        listed = "\n    ".join(changes[:5] + [f"and {len(changes) - 5} more"] * (len(changes) > 5))
        raise CheckoutError(f"{root} has uncommitted changes:\n    {listed}\ncommit them, or give --force")


def _git_status(root: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(command, env=environment, capture_output=True)
    except OSError as error:
        raise CheckoutError(f"{root} is in git, but git does not start ({error}): commit, then give --force") from None
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        raise CheckoutError(f"{root} is in git, but git status fails: {message}\ngive --force to continue without it")
    return done.stdout.decode(errors="replace").splitlines()
