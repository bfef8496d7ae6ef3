"""The commands of README.md and of docs/, run as they stand: `python -m pytest -m documents` (about three minutes).

They run one after the other in a folder that looks like a clone. Stand-ins on the PATH add small settings and find the interpreter.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from tests.patches.fork import FILES

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
TOO_LONG = ("./run_scripts/quickstart.sh", "./run_scripts/test.sh")  # each is run by hand in a fresh clone
PROGRAMS = ("python ", "mpiexec ", "torchrun ", "sbatch ", "./run_scripts/")


def commands(document: str) -> list[str]:
    """The commands of a document's code blocks without a language, comments cut off."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\s{2,}#.*", "", line) for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if line.startswith(PROGRAMS)]


def test_every_document_has_its_commands_and_the_links_of_all_lead_somewhere():
    assert sum(len(commands(document)) for document in DOCUMENTS) > 20
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / document).read_text()):
            assert target.startswith("http") or (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone, with a run, pictures and a fork at home, and stand-ins for the launchers."""
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("saved_models", "quickstart_runs"):
            (folder / path.name).symlink_to(path)
    _make_home(folder / "home")
    shutil.copytree(folder / "home" / "pictures", folder / "pictures")
    _make_arrays(folder)
    (folder / "mine.toml").write_text("wd = 0.01\n")
    (folder / "bin").mkdir()
    for name, command in (("python", sys.executable), ("torchrun", f"{sys.executable} -m torch.distributed.run"),
                          ("sbatch", f"{sys.executable} {folder / 'sbatch.py'}")):
        (folder / "bin" / name).write_text(STAND_IN.format(command=command))
        (folder / "bin" / name).chmod(0o755)
    (folder / "sbatch.py").write_text(SBATCH)
    assert run(folder, "python train.py --hps photos32").returncode == 0
    return folder


STAND_IN = """#!/bin/bash
small="--num_iters 2 --n_batch 2 --device cpu --precision fp32 --width 8 --zdim 2 --num_mixtures 2"
case "$*" in
    *train.py*|*vdvae.train*) more=$small ;;
    *experiments.table4*) more="--seeds 0 $small" ;;
    *experiments.vdvae_map*) more="--seeds 1 --variants explin/constant1 --lrs 0.07" ;;
    *experiments.table2*|*experiments.stability_map*) more="--seeds 1 --steps 3 --lrs 0.001 --dataset photos32" ;;
esac
exec {command} "$@" $more
"""
SBATCH = """
import sys
from vdvae import load_hparams
script = next(index for index, word in enumerate(sys.argv) if word.endswith(".sh"))
assert open(sys.argv[script]).readline().startswith("#!")
load_hparams(sys.argv[script + 1:])
"""


def _make_home(home: Path) -> None:
    (home / "pictures").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for index in range(40):
        imageio.imwrite(home / "pictures" / f"{index}.png", noise.integers(0, 256, (70, 80, 3), dtype=np.uint8))
    (home / "my-vdvae").mkdir()
    for name, text in FILES.items():
        (home / "my-vdvae" / name).write_text(text)


def _make_arrays(folder: Path) -> None:
    """What docs/own_images.md begins with besides pictures: grey images of 16 bits, a stack of them, tiles of five channels."""
    noise = np.random.default_rng(0)
    (folder / "cells").mkdir()
    (folder / "tiles").mkdir()
    tifffile.imwrite(folder / "stack.tif", noise.integers(0, 65536, (40, 64, 64), dtype=np.uint16))
    for index in range(40):
        imageio.imwrite(folder / "cells" / f"{index}.png", noise.integers(0, 65536, (70, 80), dtype=np.uint16))
        tile = noise.integers(0, 65536, (64, 64, 5), dtype=np.uint16)
        tifffile.imwrite(folder / "tiles" / f"{index}.tif", tile, photometric="minisblack")


def run(folder: Path, command: str) -> subprocess.CompletedProcess:
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{scripts}:{os.environ['PATH']}", "HOME": str(folder / "home"),
                   "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    limit = f"timeout --signal=INT 10 {command}" if "--follow" in command else command
    return subprocess.run(["bash", "-c", limit], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.documents
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_do_what_the_document_says(clone, document):
    """Exit code 0. Where the data must be downloaded first, one line that names the script or the file."""
    for command in commands(document):
        if command.startswith(TOO_LONG):
            continue
        done = run(clone, command)
        downloads = "DIR" in command and done.returncode == 2 and re.search(r"setup_\w+\.sh|\.th", done.stderr)
        watched = "--follow" in command and done.returncode in (124, 130)
        differs = "patches --check" in command and done.returncode == 1
        assert done.returncode == 0 or downloads or watched or differs, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.documents
def test_the_readme_s_python_runs(clone):
    """With the means, outputs and images that a reader has, and the run that stands here."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    given = "import torch\nmu, raw = torch.zeros(2, 2, 3)\nimages = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)\n"
    (clone / "readme.py").write_text(given + "".join(blocks).replace("saved_models/mine", "saved_models/test"))
    done = run(clone, "python readme.py")
    assert len(blocks) == 2 and done.returncode == 0, done.stderr
