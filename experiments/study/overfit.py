"""Runs of train.py on the set photos32_overfit, each in its own process, and whether they failed."""

import math
import os
import subprocess
import sys
from pathlib import Path

from experiments.study.runs import TRAIN
from vdvae.training.endings import Stuck
from vdvae.records.run_log import read_run

RULE = ("A run failed if an update was NaN or infinite, or if the final loss of the averaged weights is not finite or above "
        "the first training loss.")


def run(flag: str, residual: bool, lr: float, seed: int, steps: int, folder: Path) -> dict:
    """Train in `folder`, or resume there, and return the run's record; raises RuntimeError when train.py fails.

    The first and the final loss are in nats per dimension.
    """
    desc = f"{flag}{'_residual' if residual else ''}_lr{lr:g}_s{seed}"
    flags = ["--hps", "photos32_overfit", "--sigma_param", flag, "--posterior", "residual" if residual else "absolute",
             "--lr", lr, "--seed", seed, "--num_iters", steps, "--device", "cpu", "--save_dir", folder, "--desc", desc,
             "--resume", "auto"]
    done = subprocess.run([sys.executable, TRAIN, *map(str, flags)], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    if done.returncode not in (0, Stuck.exit_code):
        raise RuntimeError(f"{desc}: train.py ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return record(folder / desc)


def record(folder: Path) -> dict:
    """First and final loss of a run that has ended, its counts, and whether it failed."""
    log = read_run(folder)
    first, final = log.train[0]["elbo"], log.final_nelbo.nats_per_dim
    counts = {name: log.counts[name] for name in ("nan_updates", "skipped_updates")}
    failed = counts["nan_updates"] > 0 or not math.isfinite(final) or final > first
    return {"first": first, "final": final, **counts, "failed": failed}
