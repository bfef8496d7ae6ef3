"""What tests of vdvae share: one thread, and a handful of small images."""

import numpy as np
import pytest
import torch

from vdvae.data.images import ArrayImages


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
