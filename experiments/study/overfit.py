"""Runs of train.py on the set photos32_overfit, each in its own process, and whether they failed."""

import math
import os
import subprocess
import sys
from pathlib import Path

from experiments.study.runner import launcher_of
from experiments.study.runs import TRAIN
from vdvae.records.run_log import read_run
from vdvae.training.endings import Stuck

RULE = ("A run failed if an update was NaN or infinite, or if the final loss of the averaged weights is not finite or above "
        "the first training loss.")


def run(flag: str, residual: bool, lr: float, seed: int, steps: int, folder: Path) -> dict:
    """Train one variant of the stability map in `folder`, or resume there, and return the run's record."""
    desc = f"{flag}{'_residual' if residual else ''}_lr{lr:g}_s{seed}"
    return train(folder, desc, ["--sigma_param", flag, "--posterior", "residual" if residual else "absolute", "--lr", lr,
                                "--seed", seed, "--num_iters", steps, "--device", "cpu"])


def train(folder: Path, desc: str, flags: list, ranks: int = 1, **environment: str) -> dict:
    """Train with `flags` in `folder / desc`, or resume there; returns the run's record, RuntimeError when train.py fails.

    The first and the final loss are in nats per dimension.
    """
    command = [*launcher_of(ranks), sys.executable, TRAIN, "--hps", "photos32_overfit", *flags, "--save_dir", folder,
               "--desc", desc, "--resume", "auto"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)
    if done.returncode not in (0, Stuck.exit_code):
        raise RuntimeError(f"{desc}: train.py ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return record(folder / desc)


def record(folder: Path) -> dict:
    """First and final loss of a run that has ended, its counts, and whether it failed."""
    log = read_run(folder)
    first, final = log.train["elbo"][0].item(), log.final_nelbo.nats_per_dim
    counts = {name: log.counts[name] for name in ("nan_updates", "skipped_updates")}
    failed = counts["nan_updates"] > 0 or not math.isfinite(final) or final > first
    return {"first": first, "final": final, **counts, "failed": failed}
