"""Writes changes into a checkout, all of them or none, and restores what it was before."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from patches.problems import CheckoutError
from patches.tree.changes import Change
from patches.tree.record import FORMAT, STORE, Entry, digest, edited, read_record


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
    paths = {root / change.path for change in changes if not change.created} | {root}
    paths |= {next(folder for folder in (root / change.path).parents if folder.exists()) for change in changes}
    # Root may write any file, and so the owner's permission bit counts too.
    locked = sorted(str(path) for path in paths if not path.stat().st_mode & stat.S_IWUSR or not os.access(path, os.W_OK))
    if locked:
        raise CheckoutError(f"no permission to write {', '.join(locked)}: chmod u+w, then start again")


def refuse_uncommitted(root: Path) -> None:
    """Raises CheckoutError if git has uncommitted changes or cannot say; a tree outside git passes."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise CheckoutError(f"{root} is in git, but git does not start ({error}): commit, then give --force") from None
    if done.returncode != 0:
        raise CheckoutError(f"{root} is in git, but git status fails: {done.stderr.strip()}\ngive --force to continue without it")
    changes = done.stdout.splitlines()
    if changes:
        listed = "\n    ".join(changes[:5] + [f"and {len(changes) - 5} more"] * (len(changes) > 5))
        raise CheckoutError(f"{root} has uncommitted changes:\n    {listed}\ncommit them, or give --force")


def write_changes(root: Path, changes: Sequence[Change]) -> None:
    """Save the originals and the record, then write every file; raises CheckoutError with the tree as it was."""
    check_targets(root, changes)
    record = [_entry(root, change) for change in changes]
    try:
        _save_originals(root, changes, record)
        _write(root, {change.path: change.after for change in changes}, record)
    except BaseException as error:
        try:
            _restore(root, record, {change.path: change.before for change in changes if not change.created})
        except OSError as second:
            raise CheckoutError(f"could not write: {error}; could not restore everything either: {second}. "
                                f"The originals are in {root / STORE}: python -m patches --revert {root}") from error
        if isinstance(error, OSError):
            raise CheckoutError(f"could not write: {error}; everything is as it was") from error
        raise


def revert(root: Path, force: bool = False) -> list[Entry]:
    """Restore the originals, remove what was created, and remove the record last.

    Raises CheckoutError before it touches anything if there is no record, if an original is damaged, or, without
    `force`, if a file was edited after it was written. A second call finishes a first one that was cut off.
    """
    record = read_record(root)
    if record is None:
        raise CheckoutError(f"nothing to revert: {root} has no {STORE}")
    if not force and (lost := edited(root, record)):
        raise CheckoutError(f"edited since they were patched: {', '.join(lost)}; --force throws these edits away")
    originals = {entry.path: _original(root, entry) for entry in record if not entry.created and entry.now(root) != entry.before}
    try:
        _restore(root, record, originals)
    except OSError as error:
        raise CheckoutError(f"could not restore everything: {error}; correct this, then run --revert again") from error
    return record


def _entry(root: Path, change: Change) -> Entry:
    if change.created:
        return Entry(change.path, None, digest(change.after), True, None)
    mode = stat.S_IMODE((root / change.path).stat().st_mode)
    return Entry(change.path, digest(change.before), digest(change.after), False, mode)


def _save_originals(root: Path, changes: Sequence[Change], record: Sequence[Entry]) -> None:
    store = root / STORE
    store.mkdir()
    _write_durably(store / ".gitignore", b"*\n")
    for change in changes:
        if not change.created:
            _write_durably(store / "originals" / change.path, change.before)
    text = json.dumps({"format": FORMAT, "files": [asdict(entry) for entry in record]}, indent=1)
    _write_durably(store / "manifest.partial", text.encode())
    os.replace(store / "manifest.partial", store / "manifest.json")


def _write(root: Path, contents: Mapping[str, bytes], record: Sequence[Entry]) -> None:
    """All new bytes are on disk before the first rename, so a full disk is noticed while the tree is still whole."""
    files = [(root / entry.path, entry) for entry in record if entry.path in contents]
    for path, entry in files:
        _write_durably(_temporary(path), contents[entry.path])
        if entry.mode is not None:
            if hasattr(os, "chown") and path.exists():
                with contextlib.suppress(PermissionError):  # root patches other people's files, as in a container
                    os.chown(_temporary(path), path.stat().st_uid, path.stat().st_gid)
            os.chmod(_temporary(path), entry.mode)
    for path, _ in files:
        os.replace(_temporary(path), path)


def _restore(root: Path, record: Sequence[Entry], originals: Mapping[str, bytes]) -> None:
    """Writes the originals where files differ from them; removes what was created, and folders that are then empty."""
    for entry in record:
        _temporary(root / entry.path).unlink(missing_ok=True)
    _write(root, {entry.path: originals[entry.path] for entry in record
                  if entry.path in originals and entry.now(root) != entry.before}, record)  # fmt: skip
    created = [root / entry.path for entry in record if entry.created]
    for path in created:
        path.unlink(missing_ok=True)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
    folders = {folder for path in created for folder in (path.parent / "__pycache__", *path.parents) if folder.is_relative_to(root)}
    for folder in sorted(folders - {root}, reverse=True):
        with contextlib.suppress(OSError):  # it holds other files
            folder.rmdir()
    if (root / STORE).exists():
        shutil.rmtree(root / STORE)


def _original(root: Path, entry: Entry) -> bytes:
    saved = root / STORE / "originals" / entry.path
    try:
        data = saved.read_bytes()
    except OSError as error:
        raise CheckoutError(f"the original of {entry.path} cannot be read: {error}; nothing was restored") from None
    if digest(data) != entry.before:
        raise CheckoutError(f"{saved} is not what was saved, its SHA-256 differs; nothing was restored")
    return data


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.stable_params_patch")


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
