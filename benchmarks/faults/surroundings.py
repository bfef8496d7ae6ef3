"""Takes from a run what it stands on, and prints the outcome of each: python -m benchmarks.faults.surroundings

Outputs that nobody takes, signals, full disks, a second process, states of another content or another device, three ranks.
benchmarks/faults/injected.py says what counts as survived.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.faults.chaos import ROOT
from benchmarks.faults.injected import FULL_AT, Row, contents, crashed_run, refused, run, same_end, try_all
from vdvae.saving.run_state import MANIFEST, _fingerprint, saved_states

TERMINAL = """import os, subprocess, sys
ours, theirs = os.openpty()
process = subprocess.Popen(sys.argv[1:], stdout=theirs, stderr=theirs)
os.close(theirs), os.read(ours, 1), os.close(ours)
sys.exit(process.wait())"""
OUTPUTS = {
    "stdout closed": '"$@" >&-',
    "stderr closed": '"$@" 2>&-',
    "stdin, stdout and stderr closed": '"$@" <&- >&- 2>&-',
    "full disk behind stdout": '"$@" >/dev/full',
    "full disk behind stdout and stderr": '"$@" >/dev/full 2>&1',
    "stdout read by head -1": '"$@" | head -1; exit ${PIPESTATUS[0]}',
    "stdout and stderr read by head -1": '"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}',
    "terminal gone": f'{sys.executable} -c {shlex.quote(TERMINAL)} "$@"',
}
LIMIT = "trap '' XFSZ; ulimit -f {}; "  # KiB that a file may have, which a writer sees as a full disk


def main(arguments: list[str] | None = None) -> int:
    """Try all; returns 1 when one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.surroundings", description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    return try_all(outputs, signals, full_disks, tools, owners, states, three_ranks)


def outputs(folder: Path) -> Iterator[Row]:
    """Outputs that cannot be written, from the start or from the first line on."""
    run(folder / "calm")
    for number, (fault, around) in enumerate(OUTPUTS.items()):
        done = run(folder / str(number), around=around)
        survived = done.returncode == 0 and same_end(folder / str(number), folder / "calm")
        yield Row(fault, survived, f"code {done.returncode}, the undisturbed end")


def signals(folder: Path) -> Iterator[Row]:
    """SIGHUP, obeyed and under nohup ignored; SIGTERM when the disk is full."""
    for fault, around, flags, code in (
        ("SIGHUP", '"$@" & ', ["--num_iters", "100000"], 75),
        ("SIGHUP under nohup", 'nohup "$@" & ', ["--num_iters", "300"], 0),
        ("SIGTERM on a full disk", LIMIT.format(FULL_AT // 1024) + '"$@" & ', ["--num_iters", "100000"], 4),
    ):
        target = folder / fault.replace(" ", "-")
        signal = f"until grep -qs train_loss {target}/run/log.jsonl; do sleep 0.1; done; kill -{fault.split()[0]} $!; wait $!"
        done = run(target, *flags, around=around + signal)
        saved = bool(saved_states(target / "run"))
        yield Row(fault, (done.returncode, saved) == (code, code != 4),
                  f"code {done.returncode}, state {'' if saved else 'not '}saved")


def full_disks(folder: Path) -> Iterator[Row]:
    """A disk that TensorBoard's sheets fill, with one sheet after each update."""
    run(folder / "calm")
    flags = ["--tensorboard", "--iters_per_images", "1", "--num_images_visualize", "8", "--num_variables_visualize", "6"]
    done = run(folder / "full", *flags, around=LIMIT.format(600) + '"$@"')
    reported = done.stderr.count("error: TensorBoard")
    yield Row("TensorBoard on a full disk", (done.returncode, reported) == (0, 1) and same_end(folder / "full", folder / "calm"),
              f"code {done.returncode}, {'reported once' if reported == 1 else 'not reported'}, the undisturbed end")


def tools(folder: Path) -> Iterator[Row]:
    """Tools whose output does not fit the disk."""
    run(folder / "calm")
    (folder / "npz").mkdir()
    for name in ("train_data_batch_1", "val_data"):
        np.savez(folder / f"npz/{name}.npz", data=np.zeros((500, 3 * 16 * 16), np.uint8))
    for tool, *arguments in (
        ("convert", "imagenet", folder / "npz", folder / "converted/images", "--image_size", "16"),
        ("compare", folder / "calm/run", "--out", folder / "compared/report"),
        ("sample", folder / "calm/run", "--n", "500", "--out", folder / "sampled.npz"),
        ("sample", folder / "calm/run", "--out", folder / "sampled/images"),
    ):
        before = set(folder.iterdir())
        module = "vdvae.data.convert" if tool == "convert" else f"vdvae.{tool}"
        command = ["bash", "-c", LIMIT.format(2) + '"$@"', "bash", sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        lines, left = len(done.stderr.splitlines()), len(set(folder.iterdir()) - before)
        fault = f"{tool} on a full disk, to {arguments[-1].name if tool == 'sample' else 'a folder'}"
        yield Row(fault, (done.returncode, lines, left) == (2, 1, 0),
                  f"code {done.returncode}, lines on stderr {lines}, files left behind {left}")


def owners(folder: Path) -> Iterator[Row]:
    """Two processes that start in one folder."""
    run(folder / "calm")
    done = run(folder / "twice", around='"$@" & "$@"; second=$?; wait $!; exit $(($? + second))')
    survived = refused(done, "is in use, by process") and same_end(folder / "twice", folder / "calm")
    yield Row("two processes in one folder", survived, "one of them refused with code 2, the undisturbed end")


def states(folder: Path) -> Iterator[Row]:
    """Newest states with right checksums: of other contents, and as a GPU would have saved them."""
    run(folder / "calm")
    crashed = crashed_run(folder)
    for fault, change in {"epoch null": {"epoch": None}, "iteration 10^12": {"iteration": 10**12}, "an unknown field": {"x": 1},
                          "a missing field": {"counters": {}}}.items():  # fmt: skip
        copy = Path(shutil.copytree(crashed, folder / fault.replace(" ", "-")))
        newest = saved_states(copy / "run")[0]
        path = newest / "position.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        sign(newest)
        done = run(copy)
        survived = done.returncode == 0 and "damaged" in done.stdout and same_end(copy, folder / "calm")
        yield Row(f"newest state with {fault}", survived, "reported; resumed from the state before, same end")
    newest = saved_states(crashed / "run")[0]
    tensors = torch.load(newest / "tensors.pt", weights_only=True)
    tensors["noise"][0].append(torch.zeros(16, dtype=torch.uint8))
    torch.save(tensors, newest / "tensors.pt")
    sign(newest)
    done = run(crashed)
    yield Row("state of a GPU, resumed on the CPU", done.returncode == 0 and "its noise begins anew" in done.stdout,
              "trained to the end, new noise reported")


def sign(state: Path) -> None:
    """Write the checksums of the files as they are now."""
    (state / MANIFEST).write_text(json.dumps({name: _fingerprint(state / name) for name in ("tensors.pt", "position.json")}))


def three_ranks(folder: Path) -> Iterator[Row]:
    """A run on three ranks ends with an exception in update 10 and is resumed."""
    flags = ["--n_batch", "2"]
    run(folder / "calm", *flags, ranks=3)
    crashed = run(folder / "wild", *flags, inject=("exception", 2), at=10, ranks=3)
    done = run(folder / "wild", *flags, ranks=3)
    survived = (crashed.returncode, done.returncode) == (1, 0) and same_end(folder / "wild", folder / "calm")
    yield Row("exception on one of three ranks", survived, f"code {crashed.returncode}; resumed to the same end")


if __name__ == "__main__":
    sys.exit(main())
