import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.table4 import main
from vdvae.settings.hparams import load_hparams

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ["vanilla", "upbounded1", "explin", "vanilla_const1", "upbounded1_const1", "explin_const1"]
LENGTH = ["--num_epochs", "2", "--lr", "0.5"]


@pytest.fixture()
def table4(program, runs_folder, capsys):
    """Run the study on the stand-in: exit code, standard output, standard error."""
    def call(*arguments: str):
        code = main(["--hps", "photos32", "--save_dir", str(runs_folder), *arguments], program)
        return code, *capsys.readouterr()

    return call


def descs(calls: list[list[str]]) -> list[str]:
    return [arguments[arguments.index("--desc") + 1] for arguments in calls]


def states(out: str) -> dict[str, list[str]]:
    """Cells of the last table by the first one."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.split("| run ")[-1].splitlines()]
    return {row[0]: row[1:] for row in rows[2:] if len(row) == 3}


def test_list_prints_the_six_variants_for_each_seed_and_does_nothing(table4, runs_folder):
    code, out, _ = table4("--list", "--seeds", "3", "5", *LENGTH)
    lines = [shlex.split(line) for line in out.splitlines()]
    assert code == 0 and not list(runs_folder.iterdir())
    assert descs(lines) == [f"{variant}_s{seed}" for seed in (3, 5) for variant in VARIANTS]
    for line, variant in zip(lines, 2 * VARIANTS):
        hparams = load_hparams(line[2:])
        assert (hparams.sigma_param, hparams.prior_const1) == (variant.split("_")[0], "const1" in variant)
        assert (hparams.hps, hparams.num_epochs, hparams.resume) == ("photos32", 2, "auto")
        assert hparams.desc == f"{variant}_s{hparams.seed}"


def test_nvae_is_a_seventh_variant(table4):
    lines = table4("--list", "--seeds", "0", "1", "--nvae", "0.1")[1].splitlines()
    assert len(lines) == 14
    seventh = shlex.split(lines[6])
    wanted = {"--sigma_param": "softclamp5_0.01", "--posterior": "residual", "--spectral_reg": "0.1",
              "--desc": "softclamp5_0.01_residual_spectral0.1_s0"}
    assert {flag: seventh[seventh.index(flag) + 1] for flag in wanted} == wanted
    assert not any("spectral" in line or "residual" in line for line in lines[:6])
    code, _, err = table4("--list", "--nvae", "0")
    assert code == 2 and "--nvae is 0.0, it must be above 0" in err


@pytest.mark.parametrize("arguments", [["--num_epochs", "2"], ["--", "--num_epochs", "2"]])
def test_further_flags_reach_train_with_and_without_dashes(table4, arguments):
    lines = table4("--list", "--seeds", "0", *arguments)[1].splitlines()
    assert all(line.endswith(" --num_epochs 2") for line in lines)


def test_a_data_set_has_its_own_set_and_several_ranks_need_mpiexec(program, capsys):
    assert main(["--dataset", "ffhq_256", "--list", "--seeds", "0", "--ranks", "3"], program) == 0
    line = shlex.split(capsys.readouterr().out.splitlines()[0])
    assert Path(line[0]).name == "mpiexec" and line[1:3] == ["-n", "3"]
    assert line[line.index("--hps") + 1] == "ffhq256" and "--dataset" not in line
    assert line[line.index("--save_dir") + 1] == "./saved_models/table4-ffhq256"


def test_a_data_set_with_a_set_made_for_another_is_passed_on(table4):
    out = table4("--dataset", "cifar10", "--list", "--seeds", "0")[1]
    assert load_hparams(shlex.split(out.splitlines()[0])[2:]).dataset == "cifar10"


def test_failures_do_not_stop_the_study_and_a_restart_runs_only_what_is_missing(table4, runs_folder, calls):
    (runs_folder / "fail-explin_s0").write_text("3")
    code, out, err = table4("--seeds", "0", *LENGTH)
    assert code == 1 and "1 of 6 runs are not finished" in err
    assert descs(calls()) == [f"{variant}_s0" for variant in VARIANTS]
    assert states(out)["explin_s0"] == ["failed", "3 (stuck: skipped every update)"]
    assert states(out)["vanilla_s0"] == ["finished", "0"]
    assert "explin/prior_const1" in out and "| explin " not in out  # compared without the one that failed
    (runs_folder / "fail-explin_s0").unlink()
    code, out, err = table4("--seeds", "0", *LENGTH)
    assert (code, err, descs(calls())) == (0, "", ["explin_s0"])
    assert "| explin " in out and states(out)["vanilla_s0"] == ["finished", ""]


def test_exit_code_0_without_the_marker_is_a_failure(table4, runs_folder, calls):
    (runs_folder / "fail-vanilla_s0").write_text("0")
    code, out, _ = table4("--seeds", "0", *LENGTH)
    assert code == 1 and states(out)["vanilla_s0"] == ["failed", "0"]


def test_report_folder_goes_to_compare_with_the_finished_runs(table4, runs_folder, tmp_path, monkeypatch):
    (runs_folder / "fail-vanilla_s0").write_text("1")
    asked = []
    monkeypatch.setattr("vdvae.tools.compare.main", lambda argv: asked.append(argv) or 0)
    table4("--seeds", "0", "--report", str(tmp_path / "report"), *LENGTH)
    folders = [str(runs_folder / f"{variant}_s0") for variant in VARIANTS[1:]]
    assert asked == [[*folders, "--out", str(tmp_path / "report")]]


@pytest.mark.parametrize("compared", [0, 2])
def test_a_failed_comparison_shows_in_the_exit_code(table4, monkeypatch, compared):
    monkeypatch.setattr("vdvae.tools.compare.main", lambda argv: compared)
    assert table4("--seeds", "0", *LENGTH)[0] == (1 if compared else 0)


@pytest.fixture()
def waiting_study(program, runs_folder):
    """A study in a process group of its own, whose third run waits for a signal."""
    (runs_folder / "wait-explin_s0").touch()
    arguments = ["--hps", "photos32", "--save_dir", str(runs_folder), "--seeds", "0", *LENGTH]
    start = f"import sys; from pathlib import Path; from experiments.table4 import main; " \
            f"sys.exit(main({arguments!r}, Path({str(program)!r})))"
    process = subprocess.Popen([sys.executable, "-c", start], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        while not (runs_folder / "waiting").exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_run_and_study_once_and_a_restart_continues(waiting_study, runs_folder, calls, table4, number):
    os.killpg(waiting_study.pid, number)  # as Ctrl-C does: all of the group
    out, _ = waiting_study.communicate(timeout=600)
    assert waiting_study.returncode == 75 and descs(calls()) == [f"{variant}_s0" for variant in VARIANTS[:3]]
    assert states(out)["explin_s0"] == ["stopped", "75 (stopped by signal)"]
    assert states(out)["explin_const1_s0"] == ["not started", ""] and "bits/dim" not in out
    (runs_folder / "wait-explin_s0").unlink()
    assert table4("--seeds", "0", *LENGTH)[0] == 0
    assert descs(calls()) == [f"{variant}_s0" for variant in VARIANTS[2:]]


def test_a_run_left_behind_by_a_killed_study_keeps_others_out(waiting_study, runs_folder, calls, table4):
    waiting_study.kill()
    waiting_study.wait()
    calls()
    code, _, err = table4("--seeds", "0", *LENGTH)
    os.kill(int((runs_folder / "waiting").read_text()), signal.SIGKILL)
    assert code == 2 and "is in use" in err and calls() == []


def test_two_studies_do_not_share_a_folder(table4, runs_folder, calls):
    with open(runs_folder / ".table4.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = table4("--seeds", "0", *LENGTH)
    assert code == 2 and "is in use" in err and calls() == []


@pytest.mark.parametrize("arguments, message", [
    (["--lr", "0.25"], "lr 0.5, now 0.25"),
    (["--lr", "0.5", "--num_epochs", "7"], "ended in epoch 2, update 20, before num_epochs 7"),
    (["--lr", "0.5", "--num_epochs", "7", "--num_iters", "21"], "num_iters 21"),
    ([*LENGTH, "--ranks", "2"], "mpi_size 1, now 2"),
])
def test_finished_runs_of_another_study_are_not_taken_for_this_one(table4, runs_folder, calls, arguments, message):
    assert table4("--seeds", "0", *LENGTH)[0] == 0
    (runs_folder / "explin_s0" / "finished.json").unlink()
    calls()
    code, _, err = table4("--seeds", "0", *arguments)
    assert code == 2 and message in err and calls() == []


@pytest.mark.parametrize("arguments", [["--num_iters", "20"], ["--num_epochs", "1"]])
def test_a_run_that_went_as_far_or_farther_is_finished(table4, calls, arguments):
    assert table4("--seeds", "0", *LENGTH)[0] == 0
    calls()
    assert table4("--seeds", "0", "--lr", "0.5", *arguments)[0] == 0 and calls() == []


def test_a_marker_that_cannot_be_read_is_named(table4, runs_folder):
    (runs_folder / "explin_s0").mkdir()
    marker = runs_folder / "explin_s0" / "finished.json"
    for text in ("", "[]", json.dumps({"epoch": 1})):
        marker.write_text(text)
        code, _, err = table4("--seeds", "0", *LENGTH)
        assert code == 2 and str(marker) in err


@pytest.mark.parametrize("arguments, message", [
    (["--seeds", "1", "1"], "--seeds has 1 twice"),
    (["--seeds"], "--seeds"),
    (["--seeds", "x"], "'x'"),
    (["--ranks", "0"], "--ranks is 0"),
    (["--widht", "8"], "did you mean --width"),
    (["--", "--seed", "4"], "seed is 4, and the study sets 0"),
    (["--", "--prior_const1"], "prior_const1 is True"),
    (["--sigma_param", "exp"], "sigma_param is 'exp'"),
    (["--prior_sigma_param", "exp"], "prior_sigma_param"),
    (["--restore_path", "x.th"], "restore_path"),
    (["--test_eval"], "test_eval"),
    (["--gpus", "2"], "--gpus belongs to --slurm"),
    (["--list", "--report", "x"], "--report"),
    (["--list", "--slurm", "x"], "--slurm"),
    (["--dataset", "cifar11"], "did you mean cifar10"),
])
def test_bad_input_is_refused_before_any_run(table4, calls, arguments, message):
    code, out, err = table4(*arguments)
    assert (code, out, calls()) == (2, "", []) and message in err


@pytest.mark.parametrize("arguments, message", [([], "give --dataset"), (["--dataset", "folder"], "give --hps too")])
def test_a_study_needs_a_data_set_that_has_a_set(program, capsys, arguments, message):
    assert main(arguments, program) == 2 and message in capsys.readouterr().err


def test_a_report_folder_with_content_is_refused_before_any_run(table4, runs_folder, calls):
    (runs_folder / "something").touch()
    for taken in (runs_folder, Path(__file__)):
        code, _, err = table4("--report", str(taken), *LENGTH)
        assert code == 2 and f"--report {taken}" in err and calls() == []


def test_a_folder_that_cannot_be_made_is_refused(program, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--hps", "photos32", "--save_dir", str(tmp_path / "file" / "runs")], program) == 2
    assert "cannot be written" in capsys.readouterr().err
