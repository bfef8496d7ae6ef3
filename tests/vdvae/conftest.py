"""What tests of evaluations share: a handful of small images."""

import numpy as np
import pytest

from vdvae.data.images import ArrayImages


@pytest.fixture()
def images() -> ArrayImages:
    """Seven images of noise, 8x8."""
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8))
