"""Runs a study's commands one after another: skips finished runs, continues after failures, passes signals on."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from experiments.study.runs import Run, StudyError
from vdvae.saving.owner import lock
from vdvae.training.endings import NotSaved, Stopped, Stuck
from vdvae.training.stop_signals import listening

STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)  # mpiexec passes SIGUSR1 on to its ranks
STOPPED = Stopped.exit_code  # of a run, and of a study: the same command continues it
MEANINGS = {2: "refused its input", Stuck.exit_code: "stuck: skipped every update",
            NotSaved.exit_code: "could not save", STOPPED: "stopped by signal"}  # fmt: skip


class Outcomes(dict[str, tuple[str, int | None]]):
    """By run: finished, failed, stopped or not started; and the exit code, None where no process was started."""

    @property
    def exit_code(self) -> int:
        """0 when all runs are finished, STOPPED when a signal stopped some or kept them from starting, 1 when some failed."""
        states = {state for state, _ in self.values()}
        if states & {"stopped", "not started"}:
            return STOPPED
        return int("failed" in states)

    def rows(self) -> list[list[str]]:
        """Run, state, exit code in words."""
        return [[desc, state, _in_words(code)] for desc, (state, code) in self.items()]


class Child:
    """The run in progress. It gets the signals that this process receives."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.asked_to_stop = False

    def receive(self, number: int, frame: object = None) -> None:
        """Start no more runs, and ask the run in progress to stop."""
        self.asked_to_stop = True
        if self.process is not None:
            self.process.send_signal(STOP)

    def run(self, command: list[str], lock_file: IO) -> int:
        """Start a run and wait for its end; returns its exit code, which is negative for a signal's number."""
        # In its own session, because Ctrl-C would reach it twice, and a second signal ends a run without saving.
        try:
            inherited = {"pass_fds": [lock_file.fileno()]} if os.name == "posix" else {}
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **inherited)
            if self.asked_to_stop:
                self.process.send_signal(STOP)
            return self.process.wait()
        finally:
            self.process = None


def run_all(runs: list[Run], launcher: list[str]) -> Outcomes:
    """Run what is not finished, each command behind `launcher`; raises StudyError if the folder is in use."""
    outcomes = Outcomes()
    with _lock(Path(runs[0].plan.save_dir)) as lock_file, listening(Child()) as child:
        for number, run in enumerate(runs, 1):
            if run.is_finished:
                outcomes[run.desc] = ("finished", None)
            elif child.asked_to_stop:
                outcomes[run.desc] = ("not started", None)
            else:
                command = [*launcher, *run.command]
                print(f"\n== {number} of {len(runs)}, {run.desc}: {shlex.join(command)}", flush=True)
                outcomes[run.desc] = _outcome(run, child.run(command, lock_file), child.asked_to_stop)
    return outcomes


def launcher_of(ranks: int) -> list[str]:
    """What starts a command on this many ranks; StudyError without mpiexec."""
    if ranks == 1:
        return []
    beside = Path(sysconfig.get_path("scripts")) / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise StudyError(f"--ranks {ranks} needs mpiexec, which is not there: install the mpich package, or use --ranks 1")
    return [mpiexec, "-n", str(ranks)]


def _outcome(run: Run, code: int, asked_to_stop: bool) -> tuple[str, int]:
    if code == 0 and run.is_finished:
        return "finished", code
    return ("stopped" if asked_to_stop else "failed"), code


def _in_words(code: int | None) -> str:
    if code is None:
        return ""
    if code < 0:
        return f"{code} ({signal.Signals(-code).name})"
    return f"{code} ({MEANINGS[code]})" if code in MEANINGS else str(code)


@contextmanager
def _lock(folder: Path) -> Iterator[IO]:
    """Keep other studies out of the folder. The run in progress holds the lock too, as it may outlive this process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".table4.lock", "w")
    except OSError as error:
        raise StudyError(f"--save_dir {folder} cannot be written: {error.strerror}") from error
    with file:
        try:
            lock(file)
        except (BlockingIOError, PermissionError) as error:
            raise StudyError(f"--save_dir {folder} is in use: another study still runs there, or a run that it left "
                             "behind; wait for its end, or name another folder") from error
        except OSError as error:
            print(f"note: {file.name} cannot be locked ({error}): start no other study there", file=sys.stderr)
        yield file
