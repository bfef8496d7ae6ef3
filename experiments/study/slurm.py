"""A study as a Slurm array script: each task starts one run with run_scripts/slurm_train.sh."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.study.runs import Run, StudyError
from vdvae.records.log import FINISHED_FILE

SLURM_TRAIN = Path(__file__).resolve().parents[2] / "run_scripts" / "slurm_train.sh"
SAVING_SECONDS = 300  # between Slurm's signal and the time limit
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class Job:
    """What each array task asks for: ranks, GPUs, time limit as Slurm writes it, partition, srun's --mpi."""

    ranks: int = 1
    gpus: int = 1
    time: str = "24:00:00"
    partition: str | None = None
    mpi: str | None = None

    def __post_init__(self):
        if self.gpus and self.gpus < self.ranks:
            raise StudyError(f"--gpus is {self.gpus} for {self.ranks} ranks: at least one for each rank, or 0 for none")
        if _seconds(self.time) <= 2 * SAVING_SECONDS:
            raise StudyError(f"--time {self.time} must be more than {2 * SAVING_SECONDS // 60} minutes: a run begins to "
                             f"save {SAVING_SECONDS} seconds before its end")
        for name in ("partition", "mpi"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\w.,-]+", value):
                raise StudyError(f"--{name} is {value!r}: letters, digits and the characters . , _ - are allowed")


def array_script(runs: list[Run], job: Job, folder: Path) -> str:
    """The script's text; its tasks work in `folder`."""
    cases = [f"    {index}) folder={shlex.quote(str(run.folder))}\n        flags=({shlex.join(run.arguments)}) ;;"
             for index, run in enumerate(runs)]
    variables = {"PYTHON": sys.executable, "TRAIN": str(runs[0].plan.program),
                 "LAUNCHER": job.mpi or ("none" if job.ranks == 1 else "pmix")}
    return "\n".join([
        "#!/bin/bash", *_header(runs, job),
        f"cd {shlex.quote(str(folder))} || exit 2", "",
        'case "${SLURM_ARRAY_TASK_ID:?is not set: start this script with sbatch}" in', *cases,
        f'    *) echo "no run has index $SLURM_ARRAY_TASK_ID: 0 to {len(runs) - 1}" >&2; exit 2 ;;', "esac",
        f'if [[ -e "$folder/{FINISHED_FILE}" ]]; then', '    echo "$folder is finished"', "    exit 0", "fi",
        "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items()),
        f'exec {shlex.quote(str(SLURM_TRAIN))} "${{flags[@]}}"', ""])  # fmt: skip


def write_script(path: Path, text: str) -> None:
    """Check the script with bash and write it; raises StudyError if a file is there already."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise StudyError(f"--slurm {path} exists already, and nothing is overwritten: name another file") from error
    except OSError as error:
        raise StudyError(f"--slurm {path} cannot be written: {error.strerror}") from error


def _header(runs: list[Run], job: Job) -> list[str]:
    options = {"job-name": "table4", "array": f"0-{len(runs) - 1}", "ntasks": job.ranks, "gpus": job.gpus or None,
               "time": job.time, "partition": job.partition, "signal": f"B:USR1@{SAVING_SECONDS}",
               "open-mode": "append"}
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    return [f"# Table 4, {len(runs)} runs, one for each task. Flags of sbatch win over these: sbatch --account=NAME FILE",
            *lines, "#SBATCH --requeue"]


def _seconds(time: str) -> int:
    """Seconds of a Slurm time: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; raises StudyError for anything else."""
    match = _TIME.fullmatch(time)
    if not match:
        raise StudyError(f"--time is {time!r}: give minutes, HH:MM:SS or D-HH:MM:SS")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    units = (3600, 60, 1) if days is not None or len(numbers) == 3 else (60, 1)
    return int(days or 0) * 86400 + sum(number * unit for number, unit in zip(numbers, units))
