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
    """Train with these flags in `folder / desc`, or resume there.

    Returns the final loss in nats per dimension, the counts of NaN and of skipped updates, and whether the run got stuck.
    Raises RuntimeError with the last line on stderr when train.py fails.
    """
    command = [*launcher_of(ranks), sys.executable, TRAIN, *flags, "--save_dir", folder, "--desc", desc, "--resume", "auto"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)
    if done.returncode not in (0, Stuck.exit_code):
        raise RuntimeError(f"{desc}: train.py ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    log = read_run(folder / desc)
    counts = {name: log.counts[name] for name in ("nan_updates", "skipped_updates")}
    return {"final": log.final_nelbo.nats_per_dim, **counts, "stuck": done.returncode == Stuck.exit_code}
