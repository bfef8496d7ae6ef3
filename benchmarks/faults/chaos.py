"""Kills ranks of a training run at random moments, resumes it, and compares its end with the end of an undisturbed run.

    python -m benchmarks.faults.chaos --kills 50 --ranks 3

Prints a table of what was hit; exit code 1 when a bit differs or a step was lost. Takes about ten seconds a kill.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
FLAGS = (
    "--hps photos32_overfit --width 8 --zdim 2 --num_mixtures 1 --sigma_param explin --device cpu "
    "--dec_blocks 1x1,4m1,32m4 --enc_blocks 32d8,4d4,1x1 --n_batch 2 --lr 0.03 --skip_threshold 5 --max_consecutive_skips 0 "
    "--iters_per_print 7 --iters_per_save 3 --iters_per_images 1000000 "
    "--num_images_visualize 2 --num_variables_visualize 0 --num_temperatures_visualize 0"
).split()


def start(folder: Path, ranks: int, updates: int) -> subprocess.Popen:
    """The run in `folder`, begun or resumed, under mpiexec when it has several ranks."""
    flags = [*FLAGS, "--num_iters", str(updates), "--resume", "auto", "--save_dir", str(folder), "--desc", "run"]
    launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen([*launcher, sys.executable, str(ROOT / "train.py"), *flags], env=ENVIRONMENT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def rank_processes(folder: Path) -> list[int]:
    """Process ids of the run's ranks."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words and b"-n" not in words:
            found.append(int(process.name))
    return found


def steps_done(folder: Path) -> int:
    """Updates of the newest checkpoint."""
    states = sorted((folder / "run/state").glob("step-" + "[0-9]" * 10))
    return int(states[-1].name.removeprefix("step-")) if states else 0


def is_saving(folder: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((folder / "run/state").glob("*.partial")) or any((folder / "run").glob("*.partial"))


def hit(folder: Path, process: subprocess.Popen, chance: random.Random) -> str:
    """Kill one rank after the next checkpoint, half of the time in the middle of a save; returns what the run was doing."""
    before, wanted = steps_done(folder), chance.random() < 0.5
    while process.poll() is None and steps_done(folder) <= before:
        time.sleep(0.01)
    until = time.monotonic() + chance.uniform(0, 0.3)
    while process.poll() is None and (not is_saving(folder) if wanted else time.monotonic() < until):
        time.sleep(0.0005)
    saving, ranks = is_saving(folder), rank_processes(folder)
    if process.poll() is not None or not ranks:
        return "ended before"
    os.kill(chance.choice(ranks), signal.SIGKILL)
    return "while saving" if saving else "while training"


def end(folder: Path) -> tuple[dict, list]:
    """Final tensors, and train lines and events without times."""
    run = folder / "run"
    weights = [torch.load(run / f"latest-{name}", weights_only=True) for name in ("model.th", "model-ema.th")]
    moments = torch.load(run / "latest-opt.th", weights_only=True)["state"]
    groups = enumerate([*weights, *moments.values()])
    tensors = {f"{i} {key}": value for i, group in groups for key, value in group.items()}
    logs = [run / name for name in ("log.jsonl", "events.jsonl") if (run / name).exists()]
    records = [json.loads(line) for log in logs for line in log.open()]
    kept = [record for record in records if record.get("type") == "train_loss" or "reason" in record]
    return tensors, [{k: v for k, v in record.items() if k not in ("time", "iter_time", "data_time")} for record in kept]


def same_tensors(ours: dict, theirs: dict) -> bool:
    """Whether all tensors are the same to the bit."""
    return all(torch.equal(torch.as_tensor(ours[key]), torch.as_tensor(value)) for key, value in theirs.items())


def main(arguments: list[str] | None = None) -> int:
    """Kill, resume and compare; returns 1 when the end differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and ranks")
    options = parser.parse_args(arguments)
    chance, updates, hits, codes = random.Random(options.seed), 8 * options.kills, Counter(), Counter()
    with tempfile.TemporaryDirectory() as name:
        calm, wild = Path(name) / "calm", Path(name) / "wild"
        assert start(calm, options.ranks, updates).wait() == 0
        while sum(hits.values()) - hits["ended before"] < options.kills and not hits["ended before"]:
            process = start(wild, options.ranks, updates)
            hits[hit(wild, process, chance)] += 1
            process.wait()
            codes[process.returncode] += 1
            print(dict(hits), "at step", steps_done(wild), flush=True)
        finished = start(wild, options.ranks, updates).wait()
        (tensors, lines), (expected, expected_lines) = end(wild), end(calm)
    same = same_tensors(tensors, expected)
    print("\n| kills | while saving | while training | exit codes | last run | all tensors | log, events |")
    print("|---|---|---|---|---|---|---|")
    kills, same_lines = hits["while saving"] + hits["while training"], repr(lines) == repr(expected_lines)
    print(f"| {kills} | {hits['while saving']} | {hits['while training']} | {dict(codes)} | {finished} | "
          f"{'bitwise the same' if same else 'DIFFER'} | {'the same' if same_lines else 'DIFFER'} |")
    return int(not (same and same_lines))


if __name__ == "__main__":
    sys.exit(main())
