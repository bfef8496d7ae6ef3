"""Writes changes into a checkout, all of them or none."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from patches.problems import Change, CheckoutError
from patches.tree.checks import check_targets
from patches.tree.files import sync_folder, temporary_name, write_durably, write_temporary
from patches.tree.manifest import STORE, Entry, Manifest, digest


def write_changes(root: Path, changes: Sequence[Change]) -> Manifest:
    """Save the originals and the record, then write every file; raises CheckoutError with the tree as it was.

    After any error everything is restored. Where even that is impossible (a power cut), the record is on disk before
    the first file changes, so --revert can restore.
    """
    check_targets(root, changes)
    manifest = _manifest(root, changes)
    try:
        _save_originals(root, changes, manifest)
        _write(root, changes, manifest)
    except BaseException as error:
        _undo(root, changes, manifest, error)
        if isinstance(error, OSError):
            raise CheckoutError(f"could not write: {error}; everything is as it was") from error
        raise
    return manifest


def _manifest(root: Path, changes: Sequence[Change]) -> Manifest:
    files = tuple(_entry(root, change) for change in changes)
    above = {str(folder) for change in changes for folder in PurePosixPath(change.path).parents}
    return Manifest(files, tuple(sorted(folder for folder in above if not (root / folder).exists())))


def _entry(root: Path, change: Change) -> Entry:
    if change.created:
        return Entry(change.path, None, digest(change.after), True, None)
    mode = stat.S_IMODE((root / change.path).stat().st_mode)
    return Entry(change.path, digest(change.before), digest(change.after), False, mode)


def _save_originals(root: Path, changes: Sequence[Change], manifest: Manifest) -> None:
    store = root / STORE
    store.mkdir()
    write_durably(store / ".gitignore", b"*\n")
    for change in changes:
        if not change.created:
            saved = store / "originals" / change.path
            saved.parent.mkdir(parents=True, exist_ok=True)
            write_durably(saved, change.before)
            sync_folder(saved.parent)
    write_durably(store / "manifest.partial", manifest.to_json().encode())
    os.replace(store / "manifest.partial", store / "manifest.json")
    sync_folder(store)
    sync_folder(root)


def _write(root: Path, changes: Sequence[Change], manifest: Manifest) -> None:
    """All new bytes are on disk before the first rename, so a full disk is noticed while the tree is still whole."""
    for folder in manifest.folders:
        (root / folder).mkdir()
    for change, entry in zip(changes, manifest.files):
        write_temporary(root / change.path, change.after, entry.mode)
    for change in changes:
        os.replace(temporary_name(root / change.path), root / change.path)
    for folder in {(root / change.path).parent for change in changes}:
        sync_folder(folder)


def _undo(root: Path, changes: Sequence[Change], manifest: Manifest, cause: BaseException) -> None:
    try:
        for change, entry in zip(changes, manifest.files):
            _restore(root / change.path, change, entry)
        for folder in reversed(manifest.folders):
            if (root / folder).exists():
                (root / folder).rmdir()
        if (root / STORE).exists():
            shutil.rmtree(root / STORE)
    except OSError as error:
        raise CheckoutError(f"could not write: {cause}; could not restore everything either: {error}. "
                            f"The originals are in {root / STORE}: python -m patches --revert {root}") from cause


def _restore(path: Path, change: Change, entry: Entry) -> None:
    temporary_name(path).unlink(missing_ok=True)
    if change.created:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != change.before:
        os.replace(write_temporary(path, change.before, entry.mode), path)
