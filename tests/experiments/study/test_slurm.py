import os
import shlex
import signal
import subprocess
import time

import pytest

from experiments.study.runs import StudyError
from experiments.study.slurm import Job
from experiments.table4 import main

SRUN = r"""#!/bin/bash
printf '%s\0' "$@" > "$FAKES/started"
pwd > "$FAKES/pwd"
[[ -z "$WAIT" ]] && exit "${CODE:-0}"
trap 'exit 75' USR1
touch "$FAKES/waiting"
for _ in {1..12000}; do sleep 0.05; done
"""
SCONTROL = """#!/bin/bash
echo "$@" > "$FAKES/asked"
"""


@pytest.fixture()
def script(program, runs_folder, tmp_path, monkeypatch, capsys):
    """Write the array script of a small study; gives its path, and the commands that --list prints."""
    work = tmp_path / "where it's written"
    work.mkdir()
    monkeypatch.chdir(work)

    def write(*arguments: str):
        study = ["--hps", "photos32", "--save_dir", "../the runs", "--seeds", "0", "7", "--data_root", "it's $HOME; *"]
        assert main([*study, *arguments, "--slurm", "study.sbatch"], program) == 0
        capsys.readouterr()
        assert main([*study, "--list"], program) == 0
        return work / "study.sbatch", [shlex.split(line) for line in capsys.readouterr().out.splitlines()]

    return write


@pytest.fixture()
def fakes(tmp_path):
    """Stand-ins for srun and scontrol, which write down their arguments."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def start(script, fakes, index, **variables) -> subprocess.Popen:
    environment = {**os.environ, "PATH": f"{fakes}:{os.environ['PATH']}", "FAKES": str(fakes), "WAIT": "", "SLURM_JOB_ID": "4720",
                   "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_JOB_ID": "4711", **variables}
    return subprocess.Popen(["bash", str(script)], cwd="/", env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def srun_arguments(fakes) -> list[str]:
    return (fakes / "started").read_text().split("\0")[:-1]


def test_each_index_runs_the_command_that_list_prints(script, fakes):
    path, commands = script()
    assert len(commands) == 12 and "#SBATCH --array=0-11\n" in path.read_text()
    for index, (python, train, *flags) in enumerate(commands):
        process = start(path, fakes, index)
        assert process.wait() == 0, process.stderr.read()
        command = [python, train, "--resume", "auto", *flags]
        assert srun_arguments(fakes) == ["--mpi=none", "--kill-on-bad-exit=0", "--wait=60", *command]
        assert (fakes / "pwd").read_text().strip() == str(path.parent)
    assert not (fakes / "asked").exists()


def test_other_indices_and_none_run_nothing(script, fakes):
    path, _ = script()
    for index in ("12", "-1", ""):
        assert start(path, fakes, index).wait() != 0 and not (fakes / "started").exists()


def test_header_asks_for_what_the_options_say(script, fakes):
    path, _ = script("--ranks", "2", "--gpus", "4", "--time", "1-12:00:00", "--partition", "gpu,long", "--mpi", "pmi2")
    text = path.read_text()
    for line in ("ntasks=2", "gpus=4", "time=1-12:00:00", "partition=gpu,long", "signal=B:USR1@300", "requeue",
                 "open-mode=append"):
        assert f"#SBATCH --{line}\n" in text
    assert start(path, fakes, 0).wait() == 0 and srun_arguments(fakes)[0] == "--mpi=pmi2"


def test_several_ranks_meet_by_pmix(script, fakes):
    path, _ = script("--ranks", "2")
    assert start(path, fakes, 0).wait() == 0 and srun_arguments(fakes)[0] == "--mpi=pmix"


def test_gpus_are_one_a_rank_and_none_where_none_are_wanted(script):
    assert "#SBATCH --gpus=3\n" in script("--ranks", "3")[0].read_text()


def test_no_gpus(script):
    assert "--gpus" not in script("--gpus", "0")[0].read_text()


def test_finished_runs_are_left_alone(script, fakes, runs_folder):
    path, _ = script()
    (runs_folder / "upbounded1_s0").mkdir()
    (runs_folder / "upbounded1_s0" / "finished.json").touch()
    assert start(path, fakes, 1).wait() == 0 and not (fakes / "started").exists()
    assert start(path, fakes, 2).wait() == 0 and (fakes / "started").exists()


@pytest.mark.parametrize("code, requeued", [(75, True), (0, False), (3, False), (137, False)])
def test_only_a_run_that_was_stopped_is_requeued(script, fakes, code, requeued):
    path, _ = script()
    assert start(path, fakes, 8, CODE=str(code)).wait() == code
    assert (fakes / "asked").exists() == requeued
    assert not requeued or (fakes / "asked").read_text() == "requeue 4711_8\n"


@pytest.mark.parametrize("number, code, requeued", [(signal.SIGUSR1, 75, True), (signal.SIGTERM, -15, False)])
def test_slurm_s_signal_reaches_srun_and_a_cancelled_run_stays_out(script, fakes, number, code, requeued):
    path, _ = script()
    process = start(path, fakes, 0, WAIT="yes")
    while not (fakes / "waiting").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=600) == code and (fakes / "asked").exists() == requeued


def test_nothing_is_overwritten(script, program, capsys):
    path, _ = script()
    before = path.read_text()
    assert main(["--hps", "photos32", "--slurm", str(path)], program) == 2
    assert f"{path} exists already" in capsys.readouterr().err and path.read_text() == before
    assert main(["--hps", "photos32", "--slurm", "nowhere/file"], program) == 2
    assert "--slurm nowhere/file cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("options, message", [
    ({"ranks": 2, "gpus": 1}, "--gpus is 1 for 2 ranks"),
    ({"gpus": -1}, "--gpus is -1"),
    ({"time": "10"}, "--time 10 must be more than 10 minutes"),
    ({"time": "9:59"}, "--time 9:59"),
    ({"time": "0:10:00"}, "--time 0:10:00"),
    ({"time": "0-0:10"}, "--time 0-0:10"),
    ({"time": "a day"}, "'a day'"),
    ({"partition": "gpu long"}, "'gpu long'"),
    ({"mpi": "pmix\nrm"}, "--mpi"),
])
def test_jobs_that_cannot_be_asked_for_are_refused(options, message):
    with pytest.raises(StudyError, match="--") as error:
        Job(**options)
    assert message in str(error.value)


@pytest.mark.parametrize("limit", ["11", "10:01", "0:10:01", "1-0", "0-1", "0-0:11", "0-0:10:01", "2-00:00:00"])
def test_every_way_to_write_a_time_is_taken(limit):
    assert Job(time=limit).time == limit
