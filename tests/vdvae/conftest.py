"""What tests of vdvae share: one thread, a handful of small images, a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vdvae.runs import train
from vdvae.data.images import ArrayImages
from vdvae.records.run_log import read_run


@pytest.fixture(autouse=True, scope="package")
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
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a run that was not interrupted, some of whose updates were skipped; do not write there."""
    folder = train(tmp_path_factory.mktemp("undisturbed"))
    assert read_run(folder).counts["skipped_updates"] > 0
    return folder
