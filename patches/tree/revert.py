"""Restores a checkout to what it was before --write."""

import contextlib
import os
import shutil
from pathlib import Path

from patches.problems import CheckoutError
from patches.tree.files import sync_folder, temporary_name, write_temporary
from patches.tree.manifest import STORE, Entry, Manifest, digest, read_manifest


def revert(root: Path, force: bool = False) -> Manifest:
    """Restore the originals, remove what was created, and remove the record last.

    Raises CheckoutError before it touches anything if there is no record, if an original is damaged, or, without
    `force`, if a file was edited after it was written. A second call finishes a first one that was cut off.
    """
    manifest = read_manifest(root)
    if manifest is None:
        raise CheckoutError(f"nothing to revert: {root} has no {STORE}")
    edited = manifest.edited(root)
    if edited and not force:
        raise CheckoutError(f"edited since they were patched: {', '.join(edited)}; --force throws these edits away")
    originals = {entry: _original(root, entry) for entry in manifest.files
                 if not entry.created and not entry.is_original(root)}
    try:
        _restore(root, originals)
        _remove_created(root, manifest)
        shutil.rmtree(root / STORE)
    except OSError as error:
        raise CheckoutError(f"could not restore everything: {error}; correct this, then run --revert again") from error
    return manifest


def _original(root: Path, entry: Entry) -> bytes:
    saved = root / STORE / "originals" / entry.path
    try:
        data = saved.read_bytes()
    except OSError as error:
        raise CheckoutError(f"the original of {entry.path} cannot be read: {error}; nothing was restored") from None
    if digest(data) != entry.before:
        raise CheckoutError(f"{saved} is not what was saved, its SHA-256 differs; nothing was restored")
    return data


def _restore(root: Path, originals: dict[Entry, bytes]) -> None:
    for entry, data in originals.items():
        (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
        write_temporary(root / entry.path, data, entry.mode)
    for entry in originals:
        os.replace(temporary_name(root / entry.path), root / entry.path)
        sync_folder((root / entry.path).parent)


def _remove_created(root: Path, manifest: Manifest) -> None:
    for entry in manifest.files:
        temporary_name(root / entry.path).unlink(missing_ok=True)
        if entry.created:
            (root / entry.path).unlink(missing_ok=True)
            _remove_bytecode(root / entry.path)
    for folder in reversed(manifest.folders):
        with contextlib.suppress(OSError):  # the user has put something into it
            (root / folder).rmdir()


def _remove_bytecode(path: Path) -> None:
    cache = path.parent / "__pycache__"
    for compiled in cache.glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    with contextlib.suppress(OSError):
        cache.rmdir()
