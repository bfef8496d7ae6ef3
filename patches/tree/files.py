"""Writes a file so that a reader, or a crash, finds either the old bytes or the new bytes."""

import contextlib
import os
from pathlib import Path


def temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.stable_params_patch")


def write_temporary(path: Path, data: bytes, mode: int | None) -> Path:
    """Write the future bytes of `path` beside it; they are on disk when this returns. None leaves the mode open."""
    temporary = temporary_name(path)
    write_durably(temporary, data)
    if mode is not None:
        _keep_owner(path, temporary)
        os.chmod(temporary, mode)
    return temporary


def write_durably(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in the folder durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _keep_owner(path: Path, temporary: Path) -> None:
    """Root patches other people's files, for example in a container."""
    if hasattr(os, "chown") and path.exists():
        with contextlib.suppress(PermissionError):
            os.chown(temporary, path.stat().st_uid, path.stat().st_gid)
