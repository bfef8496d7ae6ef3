"""Trains twice, the second time stopped by a signal and resumed, and compares the ends of both runs to the bit.

    python -m benchmarks.faults.resumed OUT --hps cifar10 --dataset photos32 --num_iters 40 --cuda_graphs --deterministic

Takes the flags of train.py. Exit code 1 when a tensor, a train line or an event differs, or when the signal came too late.
"""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

from torch import Tensor

from benchmarks.faults.chaos import ROOT, end
from vdvae.training.endings import Stopped

PRINT = ("--iters_per_print", "5")


def started(folder: Path, flags: list[str]) -> subprocess.Popen:
    """The run in `folder`, begun or resumed."""
    names = ["--resume", "auto", "--save_dir", str(folder), "--desc", "run"]
    return subprocess.Popen([sys.executable, str(ROOT / "train.py"), *PRINT, *flags, *names])


def stopped_after_a_train_line(folder: Path, flags: list[str]) -> int:
    """Exit code of the run, to which a signal was sent after its first train line."""
    process, log = started(folder, flags), folder / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"train_loss"' in log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    return process.wait()


def sha256(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all bits of the tensors, in the order of their names."""
    values = (Tensor.cpu(tensors[name]).contiguous().numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(b"".join(values)).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Train, stop, resume and compare; returns 1 when the ends differ."""
    out, *flags = sys.argv[1:] if arguments is None else arguments
    folders = {name: Path(out) / name for name in ("undisturbed", "resumed")}
    codes = {"undisturbed": [started(folders["undisturbed"], flags).wait()]}
    codes["resumed"] = [stopped_after_a_train_line(folders["resumed"], flags), started(folders["resumed"], flags).wait()]
    if codes != {"undisturbed": [0], "resumed": [Stopped.exit_code, 0]}:
        print(f"exit codes {codes}: the runs did not end as they should; more --num_iters if the signal came too late")
        return 1
    ends = {name: end(folder) for name, folder in folders.items()}
    print("\n| run | exit codes | SHA-256 of weights, averages and moments | train lines and events |\n|---|---|---|---|")
    for name, (tensors, lines) in ends.items():
        print(f"| {name} | {', '.join(map(str, codes[name]))} | {sha256(tensors)} | {len(lines)} |")
    (tensors, lines), (others, other_lines) = ends.values()
    same = sha256(tensors) == sha256(others) and repr(lines) == repr(other_lines)
    print(f"\nThe runs {'end in the same bits' if same else 'DIFFER'}.")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
