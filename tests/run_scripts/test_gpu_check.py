"""gpu_check.sh with a stand-in for the interpreter: what it runs, and the report that it makes of the logs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "run_scripts" / "gpu_check.sh"
STEPS = ["versions", "tests", "train_step_{small}", "resumed", "train_step_{large}", "one_rank", "scales", "table2", "table3",
         "profile"]
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
    *get_device_name*) echo "$GPU" ;;
    *pytest*) echo "FAILED test_of_a_kernel"; exit 1 ;;
    *"only switches"*) printf '| a | b |\n|---|---|\nnoise\r100 steps\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n' ;;
esac
"""


@pytest.fixture()
def start(tmp_path):
    """start(*arguments, **environment): the script in a folder of its own, where `checkout` and `mnist` are what they say."""
    for name in ("run_scripts/gpu_check.sh", "python", "checkout/vae.py", "mnist/mnist.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(SCRIPT, tmp_path / "run_scripts")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def run(*arguments, **variables):
        environment = {"PATH": "/usr/bin:/bin", "PYTHON": "./python", "GPU": "", **variables}
        return subprocess.run([tmp_path / "run_scripts/gpu_check.sh", *arguments], env=environment, capture_output=True, text=True)

    return run


def sections(folder: Path) -> dict[str, str]:
    title, *parts = re.split(r"^## ", (folder / "report.md").read_text(), flags=re.MULTILINE)
    return {"title": title} | {part.partition("\n")[0]: part for part in parts}


@pytest.mark.parametrize("gpu, flags, used", [("NVIDIA H100", [], "cuda"), ("", [], "cpu"), ("NVIDIA H100", ["--small"], "cpu")])
def test_all_steps_run_on_the_gpu_or_small_on_a_cpu(start, tmp_path, gpu, flags, used):
    start("out", *flags, GPU=gpu, UPSTREAM="checkout", MNIST="mnist")
    found, sizes = sections(tmp_path / "out"), {"cuda": (16, 128), "cpu": (2, 4)}[used]
    assert list(found) == ["title", *(name.format(small=sizes[0], large=sizes[1]) for name in STEPS)]
    assert (gpu in found["title"] and "--hps cifar10" in found["resumed"]) if used == "cuda" else "no GPU" in found["title"]
    assert ("--cuda_graphs" in found["resumed"], "--collect-only" in found["tests"]) == (used == "cuda", used == "cpu")
    assert all(f"--device {used}" in text for name, text in found.items() if name not in ("title", "versions", "tests"))


def test_a_failure_stops_no_other_step_and_the_report_has_whole_tables(start, tmp_path):
    done = start("out", UPSTREAM="checkout")
    found = sections(tmp_path / "out")
    assert done.returncode == 1 and "exit code 1 after" in found["tests"] and "FAILED test_of_a_kernel" in found["tests"]
    assert "exit code 0 after" in found["profile"] and found["table3"].startswith("table3\n\nskipped: MNIST")
    assert "\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n\n```\nnoise\n100 steps\n```" in found["train_step_2"]
    assert "--upstream checkout" in found["train_step_4"] and "--upstream" not in found["scales"]


@pytest.mark.parametrize("arguments, variables, message", [
    ([], {}, "the arguments are"), (["--small"], {}, "the arguments are: --small"), (["out", "--big"], {}, "out --big"),
    (["mnist"], {}, "mnist exists already"), (["out"], {"UPSTREAM": "mnist"}, "UPSTREAM is mnist, which has no vae.py"),
    (["out"], {"MNIST": "checkout"}, "MNIST is checkout, which has no mnist.npz"), (["out"], {"PYTHON": "false"}, "PYTHON"),
])
def test_what_cannot_run_is_refused_before_anything_starts(start, tmp_path, arguments, variables, message):
    done = start(*arguments, **variables)
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "out").exists()


def test_the_limits_of_all_steps_together_are_eight_minutes_at_most():
    limits = list(map(int, re.findall(r"^ *step \S+ (\d+) ", SCRIPT.read_text(), re.MULTILINE)))
    assert len(limits) == len(STEPS) and sum(limits) <= 480
