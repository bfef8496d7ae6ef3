"""Checks of data files: present, and a memory-mapped array of the shape that was promised."""

from pathlib import Path

import numpy as np


def require(path: Path, root: Path, how: str) -> Path:
    """`path` if it exists, else FileNotFoundError naming it, the data_root `root` and `how` to get it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing (data_root is {root}): {how}")
    return path


def open_images(path: Path, image_size: int) -> np.memmap:
    """The uint8 images `[N, image_size, image_size, 3]` of a .npy file, mapped read-only, nothing read yet.

    Raises ValueError, naming the file, when it is truncated, is no .npy file or holds another dtype or shape.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path} is truncated or not a .npy file: {error}") from error
    expected = (image_size, image_size, 3)
    if array.dtype != np.uint8 or array.shape[1:] != expected:
        found = f"{array.dtype} {list(array.shape)}"
        raise ValueError(f"{path} must hold uint8 [N, {image_size}, {image_size}, 3], found {found}")
    return array
