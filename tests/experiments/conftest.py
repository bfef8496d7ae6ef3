"""A stand-in for train.py that records its arguments, and fails or waits where a test asks for it."""

import json

import pytest

PROGRAM = '''
import json, os, signal, sys, time
from pathlib import Path

flags = dict(zip(sys.argv[1:], sys.argv[2:]))
study, desc = Path(flags["--save_dir"]), flags["--desc"]
folder = study / desc
folder.mkdir(exist_ok=True)
with open(study / "calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if (study / f"fail-{desc}").exists():
    sys.exit(int((study / f"fail-{desc}").read_text()))
if (study / f"wait-{desc}").exists():
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
    (study / "pid").write_text(str(os.getpid()))
    (study / "pid").rename(study / "waiting")
    time.sleep(600)
    sys.exit(9)
values = {"sigma_param": flags["--sigma_param"], "prior_const1": "--prior_const1" in sys.argv,
          "seed": int(flags["--seed"]), "mpi_size": 1, "lr": 0.5, "num_epochs": 99}
lines = [{"type": "hparam", "key": key, "value": value} for key, value in values.items()]
lines.append({"type": "eval_loss", "step": 20, "elbo": 4.0})
(folder / "log.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
(folder / "finished.json").write_text(json.dumps({"iteration": 20, "epoch": 1}))
'''


@pytest.fixture()
def program(tmp_path):
    """Path of the stand-in."""
    path = tmp_path / "stand-in train.py"  # a name that a shell must quote
    path.write_text(PROGRAM)
    return path


@pytest.fixture()
def runs_folder(tmp_path):
    """A folder for the study's runs; `fail-DESC` (an exit code) and `wait-DESC` in it direct the stand-in."""
    folder = tmp_path / "the runs"
    folder.mkdir()
    return folder


@pytest.fixture()
def calls(runs_folder):
    """Gives the argument lists of the stand-in's calls since the last look."""
    def read() -> list[list[str]]:
        path = runs_folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return read
