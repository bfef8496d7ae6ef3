"""The three parts of a data set, and the seeded split that ImageNet and FFHQ share."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdvae.data.images import ImageSet


class Splits(NamedTuple):
    """The three parts of a data set; `valid` and `test` may be the same object."""

    train: ImageSet
    valid: ImageSet
    test: ImageSet


def split_last(images: np.ndarray, path: Path, seed: int, n_valid: int) -> tuple[np.ndarray, np.ndarray]:
    """(train, valid) int64 indices: numpy's legacy permutation of len(images), of which the last `n_valid` are valid.

    Raises ValueError naming the file `path` unless it holds more than `n_valid` images.
    """
    if len(images) <= n_valid:
        raise ValueError(f"{path} must hold more than the {n_valid} images kept for validation, found {len(images)}")
    order = np.random.RandomState(seed).permutation(len(images))
    return order[:-n_valid], order[-n_valid:]
