"""One run folder has one owner: who is refused, and what a killed owner leaves behind."""

import errno
import fcntl
import os
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.vdvae.runs import train
from vdvae.ranks.distributed import StartError, World
from vdvae.saving import owner
from vdvae.saving.owner import owned


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("flags", [[], ["--resume"], ["--resume", "auto"],
                                   ["--test_eval", "--restore_path", "x"]])
def test_a_second_run_in_a_folder_is_refused_by_the_owners_name_and_writes_nothing(tmp_path, flags):
    with owned(tmp_path / "run", World()):
        before = contents(tmp_path)
        with pytest.raises(StartError, match=f"run is in use, by process {os.getpid()} on {socket.gethostname()}, since 20.*--desc"):
            train(tmp_path, *flags)
        assert contents(tmp_path) == before
        with owned(tmp_path / "other", World()):  # another run is not in the way
            pass
    assert not list(tmp_path.iterdir())


def fork_an_owner(folder: Path) -> int:
    """The id of a process that holds the folder until it is killed."""
    ready, held = os.pipe()
    child = os.fork()
    if child == 0:
        with owned(folder, World()):
            os.write(held, b"x")
            time.sleep(60)
            os._exit(1)
    os.read(ready, 1)
    return child


@pytest.mark.parametrize("there_before", [True, False])
def test_an_owner_that_is_killed_is_reported_and_its_folder_is_free(tmp_path, capsys, there_before):
    folder = tmp_path / "deep/run"
    if there_before:
        folder.mkdir(parents=True)
    child = fork_an_owner(folder)
    try:
        with pytest.raises(StartError, match=f"process {child} on"), owned(folder, World()):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for _ in range(2):
        with owned(folder, World()):
            assert (folder / "owner.txt").read_text().startswith(f"process {os.getpid()} on")
    assert capsys.readouterr().err.count(f"process {child} on") == 1
    assert not list(folder.iterdir())


def test_a_file_that_its_owner_removes_between_opening_and_locking_is_no_lock(tmp_path, monkeypatch):
    lock = fcntl.flock

    def late(file, how):
        if (path := tmp_path / "owner.txt").exists() and not path.stat().st_size:
            path.unlink() if not taken else None
            taken.append(1)
        lock(file, how)

    taken = []
    monkeypatch.setattr(fcntl, "flock", late)
    with owned(tmp_path, World()):
        monkeypatch.undo()
        assert len(taken) == 2
        with pytest.raises(StartError, match="in use"), owned(tmp_path, World()):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported_and_used(tmp_path, monkeypatch, capsys, number):
    def none(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with owned(tmp_path, World()):
        pass
    assert f"owner.txt cannot be locked ([Errno {number}]" in capsys.readouterr().err


def test_a_system_without_flock_is_reported_and_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with runpy.run_path(owner.__file__)["owned"](tmp_path / "run", World()):
        (tmp_path / "run/log.jsonl").touch()
    assert "owner.txt cannot be locked (this system has no flock): make sure that no other process writes there" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.jsonl"]


def test_a_lock_that_others_may_not_read_is_refused_all_the_same(tmp_path, monkeypatch):
    """As on SMB, where the lock of a file forbids to read it, and a refused lock is a refused permission."""
    def refused(file, how):
        os.dup2(unreadable, file.fileno())
        raise PermissionError(errno.EACCES, "denied")

    unreadable = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StartError, match="run is in use, by another process"), owned(tmp_path / "run", World()):
        pass
    os.close(unreadable)
