"""Images per second of train.py on one and on two CPU ranks of one thread each, for benchmarks/cost/scaling.py."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
N_BATCH, WINDOW, WARM_UP = 8, 5, 10  # images of a rank; updates of a log line; updates that are not counted
FLAGS = (
    f"--hps photos32 --device cpu --plain --n_batch {N_BATCH} --iters_per_print {WINDOW} --iters_per_images 1000000 "
    "--iters_per_save 1000000 --num_images_visualize 1 --num_variables_visualize 0 --num_temperatures_visualize 0"
).split()


@dataclass(frozen=True)
class Setup:
    """`runs` at the same time, of `ranks` each."""

    name: str
    runs: int
    ranks: int

    @property
    def workers(self) -> int:
        """Ranks of all runs."""
        return self.runs * self.ranks


# The second shows what sharing the machine costs without any communication.
SETUPS = (Setup("one rank", 1, 1), Setup("two runs of one rank at once", 2, 1), Setup("two ranks", 1, 2))


def measure(rounds: int, updates: int, program: Path = TRAIN) -> dict[Setup, list[float]]:
    """Images per second of each setup, all its runs together, in `rounds` turns; every other one in reverse order."""
    figures = {setup: [] for setup in SETUPS}
    for turn in range(rounds):
        for setup in SETUPS if turn % 2 == 0 else reversed(SETUPS):
            figures[setup].append(images_per_second(setup, updates, program))
            print(f"{setup.name}: {figures[setup][-1]:.1f} images/s, load {os.getloadavg()[0]:.2f}", file=sys.stderr)
    return figures


def images_per_second(setup: Setup, updates: int, program: Path) -> float:
    """Of all runs of one turn; RuntimeError with what it said if one of them fails."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / f"run{index}" for index in range(setup.runs)]
        processes = [_start(folder, setup.ranks, updates, program) for folder in folders]
        for process in processes:
            said = process.communicate()[0]
            if process.returncode:
                raise RuntimeError(f"a run of {setup.name} ended with code {process.returncode}:\n{said[-2000:]}")
        return sum(setup.ranks * N_BATCH / seconds_per_update(folder / "log.jsonl") for folder in folders)


def seconds_per_update(log: Path) -> float:
    """Median over the log's full train lines after the warm-up; the last line waits for no update after it."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [line for line in lines if line.get("type") == "train_loss"][:-1]
    return statistics.median(line["iter_time"] for line in lines if line["step"] > WARM_UP)


def measured_table(figures: dict[Setup, list[float]]) -> str:
    """Median images per second, their range, and the efficiency: the median over that of as many single ranks."""
    single, rows = statistics.median(figures[SETUPS[0]]), []
    for setup, values in figures.items():
        median = statistics.median(values)
        rows.append([setup.name, f"{median:.1f}", f"{min(values):.1f} to {max(values):.1f}",
                     f"{median / (setup.workers * single):.2f}"])
    return tabulate(rows, ["setup", "images/s", "range", "efficiency"], tablefmt="github", disable_numparse=True)


def _start(folder: Path, ranks: int, updates: int, program: Path) -> subprocess.Popen:
    flags = [*FLAGS, "--num_iters", str(updates), "--save_dir", str(folder.parent), "--desc", folder.name]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen(["mpiexec", "-n", str(ranks), sys.executable, str(program), *flags], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
