"""Files written so that a reader, or a crash, meets the old bytes or the new ones and nothing between."""

import contextlib
import os
from pathlib import Path


def temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.stable_params_patch")


def write_temporary(path: Path, data: bytes, mode: int | None) -> Path:
    """Write what `path` shall hold beside it, on disk when this returns; None leaves the mode to the system."""
    temporary = temporary_name(path)
    write_durably(temporary, data)
    if mode is not None:
        os.chmod(temporary, mode)
        _keep_owner(path, temporary)
    return temporary


def write_durably(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in it durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _keep_owner(path: Path, temporary: Path) -> None:
    if not hasattr(os, "chown") or not path.exists():
        return
    old, new = path.stat(), temporary.stat()
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(PermissionError):
            os.chown(temporary, old.st_uid, old.st_gid)
            os.chmod(temporary, old.st_mode & 0o7777)
