"""quickstart.sh with stand-ins for mpiexec and python: a run that got stuck is compared, one that broke off ends the script."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "run_scripts" / "quickstart.sh"


@pytest.fixture
def quickstart(tmp_path):
    """Run the script in a folder of its own; mpiexec ends with `code` for vanilla, and all commands are noted."""
    def start(code):
        (tmp_path / "run_scripts").mkdir()
        (tmp_path / ".venv/bin").mkdir(parents=True)
        shutil.copy(SCRIPT, tmp_path / "run_scripts")
        (tmp_path / "run_scripts/venv.sh").write_text("ensure_venv() { :; }\n")
        for name, end in (("mpiexec", f'[[ "$*" != *"--desc vanilla" ]] || exit {code}'), ("python", "")):
            program = tmp_path / ".venv/bin" / name
            program.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> calls\n{end}\n')
            program.chmod(0o755)
        done = subprocess.run([tmp_path / "run_scripts/quickstart.sh", "out"], capture_output=True, text=True)
        return done.returncode, (tmp_path / "calls").read_text().splitlines()
    return start


@pytest.mark.parametrize("code", [0, 3])
def test_two_runs_are_compared_even_if_one_got_stuck(quickstart, code):
    train = "mpiexec -n 2 .venv/bin/python train.py --hps photos32_overfit"
    assert quickstart(code) == (0, [f"{train} --sigma_param vanilla --save_dir out --desc vanilla",
                                    f"{train} --stable --save_dir out --desc stable",
                                    "python -m vdvae.compare out/vanilla out/stable --out out/report"])


def test_a_run_that_broke_off_ends_the_script_with_its_code(quickstart):
    code, calls = quickstart(2)
    assert code == 2 and len(calls) == 1
