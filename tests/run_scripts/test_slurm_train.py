"""run_scripts/slurm_train.sh, started as sbatch starts it, with stand-ins for srun, mpiexec and scontrol."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from vdvae.training.endings import Stopped

SCRIPT = Path(__file__).resolve().parents[2] / "run_scripts" / "slurm_train.sh"
LAUNCHER = r"""#!/bin/bash
printf '%s\0' "${0##*/}" "$@" > "$FAKES/started"
echo "${SRUN_CPUS_PER_TASK:-none}" > "$FAKES/cpus"
[[ -z "$WAIT" ]] && exit "${CODE:-0}"
trap 'echo heard >> "$FAKES/signals"; sleep 0.3; exit "$CODE"' USR1
touch "$FAKES/waiting"
while kill -0 $PPID 2> /dev/null; do sleep 0.05; done
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$FAKES/asked"
"""
FLAGS = ["--hps", "cifar10,my own.toml", "--sigma_param", "explin", "--desc", "it's big; *"]
SRUN = ["srun", "--mpi=pmix", "--kill-on-bad-exit=0", "--wait=60"]


@pytest.fixture()
def fakes(tmp_path):
    """The folder of the stand-ins, which write down how they were called."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name, text in {"srun": LAUNCHER, "mpiexec": LAUNCHER, "scontrol": SCONTROL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture()
def project(tmp_path):
    """A folder that looks like the project's, with an interpreter that nobody calls."""
    folder = tmp_path / "the project"
    for name in ("vdvae", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    (folder / "train.py").touch()
    (folder / ".venv/bin/python").touch(mode=0o755)
    return folder


@pytest.fixture()
def start(project, fakes, tmp_path):
    """start(*arguments, cwd=..., **environment) of a copy of the script elsewhere, as Slurm makes one; None unsets."""
    copy = tmp_path / "slurm_script"
    copy.write_text(SCRIPT.read_text())

    def run(*arguments, cwd=project, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SRUN_"))}
        environment |= {"PATH": f"{fakes}:{os.environ['PATH']}", "FAKES": str(fakes), "WAIT": "",
                        "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "32", **variables}
        environment = {name: value for name, value in environment.items() if value is not None}
        return subprocess.Popen(["bash", str(copy), *arguments], cwd=cwd, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return run


def started(fakes) -> list[str]:
    return (fakes / "started").read_text().split("\0")[:-1]


def signal_when_waiting(process, fakes, number) -> None:
    while not (fakes / "waiting").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)


def test_bash_takes_it_and_it_may_be_executed():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    assert os.access(SCRIPT, os.X_OK)


def test_header_asks_for_a_signal_before_the_limit_and_for_one_task_a_gpu():
    header = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", SCRIPT.read_text().split("\nusage()")[0], re.MULTILINE))
    assert header["signal"] == "B:USR1@300" and header["open-mode"] == "append" and "requeue" in header
    assert header["ntasks-per-node"] == header["gpus-per-node"] == "8" and header["nodes"] == "1"


def test_srun_gets_train_py_with_the_flags_as_they_were_given(start, fakes):
    process = start(*FLAGS)
    assert process.wait() == 0, process.stderr.read()
    assert started(fakes) == [*SRUN, ".venv/bin/python", "train.py", "--resume", "auto", *FLAGS]
    assert (fakes / "cpus").read_text() == "none\n" and not (fakes / "asked").exists()


def test_mpiexec_starts_a_rank_for_each_task(start, fakes):
    process = start(*FLAGS, LAUNCHER="mpiexec", PYTHON="python3")
    assert process.wait() == 0, process.stderr.read()
    assert started(fakes) == ["mpiexec", "-n", "32", "python3", "train.py", "--resume", "auto", *FLAGS]


def test_another_pmi_and_the_cores_of_a_task_reach_srun(start, fakes):
    assert start(*FLAGS, LAUNCHER="pmi2", SLURM_CPUS_PER_TASK="12").wait() == 0
    assert started(fakes)[:2] == ["srun", "--mpi=pmi2"] and (fakes / "cpus").read_text() == "12\n"


def test_the_example_of_the_usage_is_taken(start, fakes):
    process = start("--help", SLURM_JOB_ID=None)
    usage = process.communicate()[0]
    [words] = [shlex.split(line) for line in usage.splitlines() if line.startswith("  sbatch")]
    assert words[:4] == ["sbatch", "--nodes", "4", "run_scripts/slurm_train.sh"] and process.returncode == 0
    assert start(*words[4:]).wait() == 0 and started(fakes)[-len(words[4:]):] == words[4:]


def test_desc_with_an_equals_sign_is_a_name_too(start):
    assert start("--hps", "cifar10", "--desc=big").wait() == 0


@pytest.mark.parametrize("arguments, variables, message", [
    ([], {}, "no arguments for train.py"),
    (["--hps", "cifar10"], {}, "no --desc NAME"),
    (["--hps", "cifar10", "--desc"], {}, "no --desc NAME"),
    (["--hps", "cifar10", "--desc="], {}, "no --desc NAME"),
    (["--desc", "--hps", "cifar10"], {}, "no --desc NAME"),
    (["--description", "big"], {}, "no --desc NAME"),
    (FLAGS, {"SLURM_JOB_ID": None}, "start this with sbatch"),
    (FLAGS, {"SLURM_NTASKS": None}, "start this with sbatch"),
    (FLAGS, {"cwd": "/"}, "/ has no train.py"),
    (FLAGS, {"PYTHON": "no-such-python"}, "no-such-python is not there"),
    (FLAGS, {"LAUNCHER": "mpirun"}, "LAUNCHER is mpirun"),
])
def test_what_cannot_run_is_refused_before_anything_starts(start, fakes, arguments, variables, message):
    process = start(*arguments, **variables)
    error = process.communicate()[1]
    assert process.returncode == 2 and message in error and ("usage: sbatch" in error) == (not arguments)
    assert not (fakes / "started").exists() and not (fakes / "asked").exists()


@pytest.mark.parametrize("launcher", ["pmix", "mpiexec"])
@pytest.mark.parametrize("code, requeued", [(Stopped.exit_code, True), (0, False), (3, False), (137, False)])
def test_only_a_run_that_was_stopped_is_requeued(start, fakes, launcher, code, requeued):
    assert start(*FLAGS, LAUNCHER=launcher, CODE=str(code)).wait() == code
    assert (fakes / "asked").exists() == requeued
    assert not requeued or (fakes / "asked").read_text() == "requeue 4711\n"


@pytest.mark.parametrize("launcher", ["pmix", "mpiexec"])
@pytest.mark.parametrize("code, requeued", [(75, True), (4, False)])
def test_slurm_s_signal_reaches_the_launcher_and_its_end_is_waited_for(start, fakes, launcher, code, requeued):
    process = start(*FLAGS, LAUNCHER=launcher, WAIT="yes", CODE=str(code))
    signal_when_waiting(process, fakes, signal.SIGUSR1)
    assert process.wait(timeout=600) == code and (fakes / "asked").exists() == requeued
    assert (fakes / "signals").read_text() == "heard\n"  # once: a second signal would end train.py without a save


def test_a_task_of_an_array_is_requeued_alone(start, fakes):
    assert start(*FLAGS, CODE="75", SLURM_ARRAY_JOB_ID="4700", SLURM_ARRAY_TASK_ID="3").wait() == 75
    assert (fakes / "asked").read_text() == "requeue 4700_3\n"


def test_another_program_is_started_by_its_path(start, fakes, tmp_path):
    other = tmp_path / "other train.py"
    other.touch()
    assert start(*FLAGS, LAUNCHER="none", TRAIN=str(other)).wait() == 0
    assert started(fakes) == ["srun", "--mpi=none", *SRUN[2:], ".venv/bin/python", str(other), "--resume", "auto", *FLAGS]


def test_a_cancelled_run_stays_out_of_the_queue(start, fakes):
    process = start(*FLAGS, WAIT="yes", CODE="75")
    signal_when_waiting(process, fakes, signal.SIGTERM)
    assert process.wait(timeout=600) == -signal.SIGTERM and not (fakes / "asked").exists()
