"""The wheel that `pip install .` builds: what it holds and requires, and that torch is enough for stable_params."""

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.vdvae.runs import TINY

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "stable_params", "vdvae", "hps"]

USE = """
import sys
import torch
import stable_params
posterior = stable_params.parse_parameterization("explin").normal(torch.zeros(2), torch.tensor([-110.0, 3.0]))
kl = posterior.kl(stable_params.Constant().normal(torch.zeros(2), torch.zeros(2)))
assert kl.isfinite().all() and posterior.rsample().shape == (2,)
assert stable_params.StableNormal(posterior.loc, posterior.scale).log_prob(torch.zeros(2)).isfinite().all()
assert stable_params.__file__.startswith(sys.argv[1]), stable_params.__file__
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel built from a copy of the sources, offline, with the setuptools that is installed."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", output]
    built = subprocess.run([*map(str, command), str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = output.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def torch_alone(tmp_path_factory):
    """A folder with links to torch and what torch itself requires, and nothing else that is installed here."""
    folder = tmp_path_factory.mktemp("torch_alone")
    for name in closure("torch"):
        package = distribution(name)
        for top in {file.parts[0] for file in package.files if file.parts[0] != ".."}:
            link = folder / top
            if not link.exists():
                link.symlink_to(package.locate_file(top))
    return folder


def closure(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """The distribution and all that it requires without an extra, recursively."""
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if needed and requirement.name not in found | {name}:
            found = closure(requirement.name, found | {name})
    return found | {name}


def test_the_wheel_holds_the_packages_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    expected = {str(path.relative_to(ROOT)) for folder in ("stable_params", "vdvae") for path in (ROOT / folder).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == expected
    sets = {f"vdvae/hps/{path.name}" for path in ROOT.glob("hps/*.toml")}
    assert {name for name in names if name.endswith(".toml")} == sets
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"stable_params", "vdvae"}


def test_the_wheel_trains_outside_a_clone(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vdvae.train", *TINY, "--num_iters", "1", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "saved_models/test/finished.json").is_file(), done.stderr


def test_torch_is_the_only_requirement_without_an_extra(wheel):
    archive = zipfile.ZipFile(wheel)
    [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    requirements = map(Requirement, message_from_bytes(archive.read(metadata)).get_all("Requires-Dist"))
    plain = [requirement for requirement in requirements if requirement.marker is None]
    assert [requirement.name for requirement in plain] == ["torch"]


def test_stable_params_of_the_wheel_runs_where_only_torch_is_installed(wheel, torch_alone, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    assert not (torch_alone / "numpy").exists() and (torch_alone / "torch").exists()
    # -I -S: neither environment variables nor site-packages; the two folders are all there is besides Python's own.
    program = f"import sys; sys.path += [{str(tmp_path)!r}, {str(torch_alone)!r}]\n{USE}"
    used = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert used.returncode == 0, used.stderr
