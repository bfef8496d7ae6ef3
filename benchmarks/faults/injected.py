"""Puts faults into runs, files and disks, and prints the outcome of each: python -m benchmarks.faults.injected

A fault is survived in three ways. Training skips the update, counts and locates it, and ends with the same bits as after any other
such skip; or training resumes from an undamaged state to the end of an undisturbed run; or the program ends with code 2 and one
line that names the file, with nothing lost or executed.
"""

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from benchmarks.faults.chaos import ENVIRONMENT, FLAGS, ROOT, end, same_tensors
from benchmarks.faults.hostile_files import try_readers
from benchmarks.faults.injected_run import FAULTS
from vdvae.data.sets.cifar10 import FOLDER

UPDATES, FAULTY, FULL_AT = 12, 5, 60_000
EXTRA = ["--num_iters", str(UPDATES), "--n_batch", "4"]


class Row(NamedTuple):
    """A fault, whether it was survived, and its outcome in words."""

    fault: str
    survived: bool
    outcome: str


def main(arguments: list[str] | None = None) -> int:
    """Try all faults; returns 1 when one was not survived."""
    argparse.ArgumentParser(prog="python -m benchmarks.faults.injected", description=__doc__.splitlines()[0]).parse_args(arguments)
    return try_all(injections, exceptions, states, logs, data_files, checkpoints_with_code, full_disks, readers)


def try_all(*parts: Callable[[Path], Iterator[Row]]) -> int:
    """Try the faults of all parts, each in a folder of its own, and print the table; returns 1 when one was not survived."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for part in parts:
            for row in part(Path(name) / part.__name__):
                rows.append(row)
                print(*row, sep=" | ", flush=True)
    print("\n" + tabulate([(row.fault, "yes" if row.survived else "NO", row.outcome) for row in rows],
                          ["fault", "survived", "outcome"], tablefmt="github"))
    survived = sum(row.survived for row in rows)
    print(f"\n{len(rows)} faults tried, {survived} survived")
    return int(survived < len(rows))


def injections(folder: Path) -> Iterator[Row]:
    """NaN and Inf on one of two ranks; each must lead to the same end, that of one skipped update."""
    first = None
    for fault in (name for name in FAULTS if name != "exception"):
        for rank in (0, 1):
            target = folder / f"{fault}-{rank}"
            done = run(target, inject=(fault, rank), ranks=2)
            events = [json.loads(line) for line in (target / "run/events.jsonl").open()]
            tensors, _ = end(target)
            first = first or tensors
            right = done.returncode == 0 and {event["step"] for event in events} == {FAULTY} and same_tensors(tensors, first)
            where = ", ".join(f"{e['reason']} on rank {e['rank']}, {e['origin']} {'' if e['block'] is None else e['block']}".rstrip()
                              for e in events)
            yield Row(f"{fault}, rank {rank}", right, f"update {FAULTY} skipped: {where}")


def exceptions(folder: Path) -> Iterator[Row]:
    """An exception on one of two ranks ends both, and --resume leads to the undisturbed end."""
    run(folder / "calm", ranks=2)
    for rank in (0, 1):
        wild = folder / f"wild-{rank}"
        done = run(wild, inject=("exception", rank), ranks=2)
        named = f"error on rank {rank} of 2: MemoryError: no memory left" in done.stderr
        run(wild, ranks=2)
        yield Row(f"exception, rank {rank}", done.returncode != 0 and named and same_end(wild, folder / "calm"),
                  f"code {done.returncode}, rank and error named; resumed to the same end")


def states(folder: Path) -> Iterator[Row]:
    """Damaged checkpoints of a run that crashed."""
    run(folder / "calm")
    crashed = crashed_run(folder)
    for kind, damage in (("truncated", cut_in_half), ("bit flipped", flip_a_bit)):
        for target in ("tensors.pt", "position.json", "manifest.json"):
            copy = Path(shutil.copytree(crashed, folder / f"{kind}-{target}"))
            newest = sorted((copy / "run/state").iterdir())[-1]
            damage(newest / target)
            done = run(copy)
            survived = done.returncode == 0 and "damaged" in done.stdout and same_end(copy, folder / "calm")
            yield Row(f"newest state's {target} {kind}", survived, "damage reported; resumed from the state before, same end")
    both = Path(shutil.copytree(crashed, folder / "both"))
    for state in (both / "run/state").iterdir():
        flip_a_bit(state / "tensors.pt")
    before = contents(both)
    done = run(both)
    yield Row("both states damaged", refused(done, "tensors.pt") and contents(both) == before, "refused by name, nothing touched")


def logs(folder: Path) -> Iterator[Row]:
    """Damaged logs of a run that crashed."""
    crashed = crashed_run(folder)
    for kind, damage in (("cut in mid-line", lambda log: os.truncate(log, log.stat().st_size - 9)), ("cut in half", cut_in_half),
                         ("bit flipped", flip_a_bit)):  # fmt: skip
        copy = Path(shutil.copytree(crashed, folder / kind.replace(" ", "-")))
        damage(copy / "run/log.jsonl")
        done = run(copy)
        read = subprocess.run([sys.executable, "-m", "vdvae.inspect", copy / "run"], capture_output=True, text=True, cwd=ROOT)
        named = read.returncode == 0 or "log.jsonl, line" in read.stderr
        reported = "lines are lost" in done.stderr or kind != "cut in half"
        yield Row(f"log {kind}, then resumed", done.returncode == 0 and named and reported,
                  f"trained to the end{', loss of lines reported' if kind == 'cut in half' else ''}; inspect "
                  f"{'reads it' if read.returncode == 0 else 'names the line'}")


def data_files(folder: Path) -> Iterator[Row]:
    """Damaged image files, and code in a CIFAR batch."""
    write_cifar(folder / "cifar")
    damages = {
        "CIFAR batch truncated": cut_in_half,
        "CIFAR batch's pickle header flipped": lambda path: flip_a_bit(path, 1),
        "code in a CIFAR batch": write_code,
    }
    for fault, damage in damages.items():
        copy = Path(shutil.copytree(folder / "cifar", folder / fault.replace(" ", "-")))
        damage(copy / FOLDER / "data_batch_2")
        done = run(copy / "runs", "--dataset", "cifar10", "--data_root", copy)
        yield Row(fault, refused(done, "data_batch_2") and not (copy / "runs/run").exists() and not PROOF.exists(),
                  "refused by name, nothing executed")
    arrays = folder / "arrays"
    arrays.mkdir()
    for split, count in (("train", 5100), ("valid", 10)):
        np.save(arrays / f"imagenet32-{split}.npy", np.zeros((count, 32, 32, 3), np.uint8))
    cut_in_half(arrays / "imagenet32-train.npy")
    done = run(arrays / "runs", "--dataset", "imagenet32", "--data_root", arrays)
    yield Row("array file truncated", refused(done, "imagenet32-train.npy"), "refused by name")
    yield from image_files(folder / "images")


def image_files(folder: Path) -> Iterator[Row]:
    """Truncated files among one's own images: one, then all."""
    import imageio.v3 as imageio

    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for n in range(40):
        imageio.imwrite(pictures / f"{n:02}.png", np.random.default_rng(n).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    flags = ["--dataset", "folder", "--data_root", pictures, "--image_size", "32"]
    cut_in_half(pictures / "07.png")
    done = run(folder / "one", *flags)
    yield Row("one own image truncated", done.returncode == 0 and "07.png" in done.stderr, "named; trained to the end without it")
    for path in pictures.iterdir():
        cut_in_half(path)
    done = run(folder / "all", *flags)
    yield Row("own images truncated", done.returncode != 0 and ".png" in done.stderr, f"code {done.returncode}, named")


PROOF = Path(tempfile.gettempdir()) / f"vdvae-code-was-executed-{os.getpid()}"


def checkpoints_with_code(folder: Path) -> Iterator[Row]:
    """A pickle that makes a file if it is loaded without care, in place of each kind of checkpoint."""
    folder.mkdir()
    write_code(folder / "bad.th")
    for flag in ("restore_path", "restore_ema_path", "restore_optimizer_path", "restore_log_path"):
        done = run(folder / flag, f"--{flag}", folder / "bad.th", resume=False)
        yield Row(f"code in the file of --{flag}", refused(done, "bad.th") and not PROOF.exists(), "refused by name, not executed")
    run(folder / "calm")
    for state in (folder / "calm/run/state").iterdir():
        write_code(state / "tensors.pt")
    done = run(folder / "calm", "--num_iters", "20")
    yield Row("code in the states", refused(done, "tensors.pt") and not PROOF.exists(), "refused by name, not executed")


def full_disks(folder: Path) -> Iterator[Row]:
    """A limit on the size of files, which a writer sees as a full disk."""
    for fault, limit in (("no room for checkpoints", FULL_AT), ("no room for logs", 3000)):
        target = folder / fault.replace(" ", "-")
        done = run(target, limit=limit)
        whole = all(json.loads(line) for line in (target / "run/log.jsonl").open())
        reported = f"trained to step {UPDATES}" in done.stderr and "could not be written" in done.stderr
        yield Row(fault, done.returncode == 4 and reported and whole, "trained to the end, failure reported, code 4; log lines whole")


def readers(folder: Path) -> Iterator[Row]:
    """Hostile lines in the log of a run, and hostile files of latents."""
    run(folder / "calm")
    yield from (Row(*each) for each in try_readers(folder, folder / "calm/run"))


def run(folder: Path, *flags: str | Path, inject: tuple[str, int] | None = None, at: int = FAULTY, ranks: int = 1,
        resume: bool = True, limit: int | None = None, around: str = 'exec "$@"') -> subprocess.CompletedProcess:
    """Run train.py in folder/run, new or resumed, with a fault in update `at`; `around` is shell code in which "$@" runs it."""
    program = ["-m", "benchmarks.faults.injected_run", inject[0], inject[1], at] if inject else [ROOT / "train.py"]
    launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
    full = f"trap '' XFSZ; ulimit -f {limit // 1024}; " if limit else ""
    command = ["bash", "-c", full + around, "bash", *launcher, sys.executable, *program, *FLAGS, *EXTRA,
               *(["--resume", "auto"] if resume else []), "--save_dir", folder, "--desc", "run", *flags]
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess, name: str) -> bool:
    """Whether the program ended with code 2 and one line that names the file."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return done.returncode == 2 and len(lines) == 1 and name in lines[0]


def crashed_run(folder: Path) -> Path:
    """The folder of a run that an exception ended in update 10."""
    run(folder / "crashed", inject=("exception", 0), at=10)
    return folder / "crashed"


def same_end(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits, and the same train lines and events."""
    (ours, lines), (theirs, expected) = end(one), end(other)
    return same_tensors(ours, theirs) and repr(lines) == repr(expected)


def contents(folder: Path) -> dict[Path, bytes]:
    """The bytes of every file in the folder and below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut_in_half(path: Path) -> None:
    """Cut the second half off."""
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path, position: int | None = None) -> None:
    """Turn the highest bit of one byte, the middle one by default."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 0x80
    path.write_bytes(data)


class _Code:
    def __reduce__(self):
        return PROOF.touch, ()


def write_code(path: Path) -> None:
    """Write a pickle that makes the file PROOF if it is loaded without care."""
    path.write_bytes(pickle.dumps(_Code()))


def write_cifar(root: Path) -> None:
    """Write noise as the files of CIFAR-10."""
    (root / FOLDER).mkdir(parents=True)
    for n, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.random.default_rng(n).integers(0, 256, (10_000, 3072), dtype=np.uint8)
        (root / FOLDER / name).write_bytes(pickle.dumps({b"data": data, b"labels": [0] * 10_000}, protocol=4))


if __name__ == "__main__":
    sys.exit(main())
