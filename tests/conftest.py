"""What tests of several ranks share: how to start programs as a user does."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from vdvae.step.acceleration import keep_compiled_code_apart

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "TORCHELASTIC_", "RANK", "WORLD_SIZE", "LOCAL_")

keep_compiled_code_apart()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Nothing is written into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)}
    return {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _start(command: list[str], timeout: float = 1800) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def run_python():
    """Run a Python program of the project: `run_python("train.py", "--hps", ...)`, arguments as strings."""
    return lambda *arguments: _start([sys.executable, *map(str, arguments)])


@pytest.fixture(scope="session")
def run_mpi():
    """The same on several ranks under mpiexec: `run_mpi(2, "train.py", ...)`; None leaves -n out."""
    mpiexec = str(Path(sysconfig.get_path("scripts")) / "mpiexec")

    def start(ranks: int | None, *arguments):
        count = [] if ranks is None else ["-n", str(ranks)]
        return _start([mpiexec, *count, sys.executable, *map(str, arguments)])

    return start


@pytest.fixture(scope="session")
def run_torchrun():
    """The same on several ranks under torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return lambda ranks, *arguments: _start([*launcher, "--nproc_per_node", str(ranks), *map(str, arguments)])


SMALL_FLAGS = ["--hps", "cifar10", "--image_size", "8", "--width", "16", "--zdim", "4", "--num_mixtures", "2",
               "--dec_blocks", "1x1,4m1,4x1,8m4,8x1", "--enc_blocks", "8x1,8d2,4d4,1x1", "--warmup_iters", "0"]


@pytest.fixture()
def small_hparams():
    """Hyper-parameters of a VDVAE with five decoder blocks on 8x8 images; flags given as arguments are added."""
    from vdvae.settings.hparams import load_hparams

    return lambda *flags: load_hparams([*SMALL_FLAGS, *map(str, flags)])


@pytest.fixture()
def small_batch():
    """Four random 8x8 images, preprocessed as CIFAR-10's."""
    import torch

    from vdvae.data.spec import DATASETS
    from vdvae.data.preprocess import Preprocess

    generator = torch.Generator().manual_seed(11)
    return Preprocess(DATASETS["cifar10"])(torch.randint(0, 256, (4, 8, 8, 3), generator=generator, dtype=torch.uint8))
