"""Writes changes into a checkout, all of them or none, and restores what it was before."""

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from patches.problems import CheckoutError
from patches.tree.changes import Change
from patches.tree.record import STORE, Entry, Record, digest, read_record


def check_targets(root: Path, changes: Sequence[Change]) -> None:
    """Raises CheckoutError, with all their names, for files in the way of new ones, changed since they were read, or read-only."""
    existing = [change.path for change in changes if change.created and os.path.lexists(root / change.path)]
    if existing:
        raise CheckoutError(f"would overwrite {', '.join(existing)}, not from this plugin: rename or remove them")
    stale = [change.path for change in changes if not change.created and (root / change.path).read_bytes() != change.before]
    if stale:
        raise CheckoutError(f"{', '.join(stale)} changed while the checkout was read: start again")
    paths = {root / change.path for change in changes if not change.created} | {root}
    paths |= {next(folder for folder in (root / change.path).parents if folder.exists()) for change in changes}
    # Root may write any file, and so the owner's permission bit counts too.
    locked = sorted(str(path) for path in paths if not path.stat().st_mode & stat.S_IWUSR or not os.access(path, os.W_OK))
    if locked:
        raise CheckoutError(f"no permission to write {', '.join(locked)}: chmod u+w, then start again")


def write_changes(root: Path, changes: Sequence[Change]) -> None:
    """Save the originals and the record, then write every file; raises CheckoutError with the tree as it was.

    After any error everything is restored. Where even that is impossible, the record is on disk before the first file
    changes, so --revert can restore.
    """
    check_targets(root, changes)
    record = _record(root, changes)
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


def revert(root: Path, force: bool = False) -> Record:
    """Restore the originals, remove what was created, and remove the record last.

    Raises CheckoutError before it touches anything if there is no record, if an original is damaged, or, without
    `force`, if a file was edited after it was written. A second call finishes a first one that was cut off.
    """
    record = read_record(root)
    if record is None:
        raise CheckoutError(f"nothing to revert: {root} has no {STORE}")
    edited = record.edited(root)
    if edited and not force:
        raise CheckoutError(f"edited since they were patched: {', '.join(edited)}; --force throws these edits away")
    originals = {entry.path: _original(root, entry) for entry in record.files if not entry.created and not entry.is_original(root)}
    try:
        _restore(root, record, originals)
    except OSError as error:
        raise CheckoutError(f"could not restore everything: {error}; correct this, then run --revert again") from error
    return record


def _record(root: Path, changes: Sequence[Change]) -> Record:
    files = tuple(Entry(change.path, digest(change.before) if change.before is not None else None, digest(change.after), change.created,
                        None if change.created else stat.S_IMODE((root / change.path).stat().st_mode)) for change in changes)
    above = {str(folder) for change in changes for folder in PurePosixPath(change.path).parents}
    return Record(files, tuple(sorted(folder for folder in above if not (root / folder).exists())))


def _save_originals(root: Path, changes: Sequence[Change], record: Record) -> None:
    store = root / STORE
    store.mkdir()
    _write_durably(store / ".gitignore", b"*\n")
    for change in changes:
        if not change.created:
            saved = store / "originals" / change.path
            saved.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(saved, change.before)
    _write_durably(store / "manifest.partial", record.to_json().encode())
    os.replace(store / "manifest.partial", store / "manifest.json")


def _write(root: Path, contents: Mapping[str, bytes], record: Record) -> None:
    """All new bytes are on disk before the first rename, so a full disk is noticed while the tree is still whole."""
    for folder in record.folders:
        (root / folder).mkdir(exist_ok=True)
    files = [entry for entry in record.files if entry.path in contents]
    for entry in files:
        (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(root / entry.path)
        _write_durably(temporary, contents[entry.path])
        if entry.mode is not None:
            if hasattr(os, "chown") and (root / entry.path).exists():
                with contextlib.suppress(PermissionError):  # root patches other people's files, as in a container
                    os.chown(temporary, (root / entry.path).stat().st_uid, (root / entry.path).stat().st_gid)
            os.chmod(temporary, entry.mode)
    for entry in files:
        os.replace(_temporary(root / entry.path), root / entry.path)


def _restore(root: Path, record: Record, originals: Mapping[str, bytes]) -> None:
    changed = {entry.path for entry in record.files if not entry.created and not entry.is_original(root)}
    for entry in record.files:
        _temporary(root / entry.path).unlink(missing_ok=True)
    _write(root, {path: data for path, data in originals.items() if path in changed}, Record(record.files, ()))
    for entry in record.files:
        if entry.created:
            (root / entry.path).unlink(missing_ok=True)
            _remove_bytecode(root / entry.path)
    for folder in reversed(record.folders):
        with contextlib.suppress(OSError):  # the user has put something into it
            (root / folder).rmdir()
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
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove_bytecode(path: Path) -> None:
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    with contextlib.suppress(OSError):
        (path.parent / "__pycache__").rmdir()
