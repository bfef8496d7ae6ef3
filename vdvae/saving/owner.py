"""One run folder has one owner: a process that holds the lock of a file in the folder until the process ends."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

from vdvae.data.files import folder_if_used
from vdvae.ranks.distributed import World

OWNER_FILE = "owner.txt"  # in the run's folder while a process holds it, and after a process that was killed


@contextmanager
def owned(folder: Path, world: World) -> Iterator[None]:
    """While the block runs, this run alone may write into `folder`, which is made if need be.

    The main rank holds the lock. Raises StartError on all ranks if another process holds it, or if the folder cannot be made.
    A folder that is still empty at the end is removed.
    """
    with ExitStack() as held:
        world.agree(lambda: held.enter_context(_held(folder)) if world.is_main else None)
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    path = folder / OWNER_FILE
    with folder_if_used(folder), _locked(path) as file:
        _sign(file, path)
        try:
            yield
        finally:
            if fcntl is None:
                file.close()  # Windows cannot remove an open file
            path.unlink(missing_ok=True)


def _locked(path: Path) -> BinaryIO:
    """The file, opened and locked; the kernel frees the lock when the process ends, however it ends."""
    for _ in range(100):
        file = open(path, "ab+", buffering=0)
        try:
            lock(file)
        except (BlockingIOError, PermissionError):
            raise BlockingIOError(f"{path.parent} is in use, by {_signature(file)}: wait for its end, or choose another --desc or "
                                  f"--save_dir. If that machine is gone, remove {path}") from None
        except OSError as error:
            print(f"note: {path} cannot be locked ({error}): make sure that no other process writes there", file=sys.stderr)
        with suppress(FileNotFoundError):  # its owner ended, and removed the file, after it was opened here
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
    raise OSError(f"{path} is replaced again and again, so it cannot be locked")


def lock(file: IO) -> None:
    """Lock an open file; raises BlockingIOError or PermissionError if it is locked, another OSError where there are no locks."""
    if fcntl is None:
        raise OSError("this system has no flock")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(file: BinaryIO, path: Path) -> None:
    """Write who this process is; an older signature is that of a process that was killed."""
    if file.tell():
        print(f"note: {_signature(file)} was killed in {path.parent}", file=sys.stderr)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S %z')}".encode())
    os.fsync(file.fileno())


def _signature(file: BinaryIO) -> str:
    try:
        file.seek(0)
        return file.read(200).decode(errors="replace") or "another process"
    except OSError:  # some network file systems do not let others read a locked file
        return "another process"
