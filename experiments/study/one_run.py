"""One run of train.py in a process of its own, and what came out."""

import os
import subprocess
import sys
from pathlib import Path

from experiments.study.runner import launcher_of
from experiments.study.runs import TRAIN
from vdvae.records.run_log import read_run
from vdvae.training.endings import Stuck


def train(folder: Path, desc: str, flags: list, ranks: int = 1, **environment: str) -> dict:
    """Train with these flags in `folder / desc`, or resume there; returns the run's record.

    Raises RuntimeError with the last line on stderr when train.py fails. A run that got stuck has a record, too.
    """
    command = [*launcher_of(ranks), sys.executable, TRAIN, *flags, "--save_dir", folder, "--desc", desc, "--resume", "auto"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)
    if done.returncode not in (0, Stuck.exit_code):
        raise RuntimeError(f"{desc}: train.py ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return record(folder / desc)


def record(folder: Path) -> dict:
    """The final loss of a run that has ended, in nats per dimension, and its counts."""
    log = read_run(folder)
    return {"final": log.final_nelbo.nats_per_dim, **{name: log.counts[name] for name in ("nan_updates", "skipped_updates")}}
