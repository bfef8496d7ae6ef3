"""What tests of vdvae share: one thread, a handful of small images, a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vdvae.runs import train
from vdvae.data.images import ArrayImages
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.records.log import RunLogger
from vdvae.records.run_log import read_run
from vdvae.saving.begin import log_start
from vdvae.saving.loaded_run import WEIGHTS

RUN_FLAGS = ["--sigma_param", "explin", "--posterior", "residual", "--prior_const1", "--lr", "0.5"]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread, in programs that tests start too: models are so small that more threads cost time on a busy machine.

    Sums over several threads round differently, so tests that compare bits and golden figures need it as well.
    """
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture()
def images() -> ArrayImages:
    """Seven images of noise, 8x8."""
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, one_thread) -> Path:
    """The folder of a run that was not interrupted, some of whose updates were skipped; do not write there."""
    folder = train(tmp_path_factory.mktemp("undisturbed"))
    assert read_run(folder).counts["skipped_updates"] > 0
    return folder


@pytest.fixture()
def vae(small_hparams) -> VAE:
    """A model whose weights are far enough from their start that each latent shows in the pixels."""
    torch.manual_seed(0)
    vae = VAE(small_hparams(*RUN_FLAGS)).requires_grad_(False)
    for parameter in vae.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return vae


@pytest.fixture()
def run(vae, small_hparams, tmp_path) -> Path:
    """The folder of a run whose averaged weights are those of `vae`."""
    folder = tmp_path / "run"
    folder.mkdir()
    log_start(small_hparams(*RUN_FLAGS), vae, World(), RunLogger(folder))
    torch.save(vae.state_dict(), folder / WEIGHTS)
    return folder
