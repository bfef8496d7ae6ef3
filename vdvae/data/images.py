"""Sets of uint8 images `[H, W, C]`: the interface, the kind that is an array in memory or on disk, and three parts of one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset


class ImageSet(Dataset, ABC):
    """uint8 images of one shape.

    image_shape: (H, W, C).
    decodes: True where items are decoded from files, so that worker processes help.
    files: digests of the files by relative path, where the set is a part of a folder.
    notes: lines for the log on how the whole folder was read.
    broken: messages, by path, on files in whose place another one was read.
    """

    image_shape: tuple[int, int, int]
    decodes: bool
    files: dict[str, str] = {}
    notes: Sequence[str] = ()
    broken: dict[str, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> torch.Tensor:
        """Image `index` as uint8 `[H, W, C]`; IndexError beyond the end."""

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        """The images at `indices`, in that order, as one uint8 batch `[B, H, W, C]`."""
        return torch.stack([self[index] for index in indices])


class Splits(NamedTuple):
    """The three parts of a data set; `valid` and `test` may be the same object."""

    train: ImageSet
    valid: ImageSet
    test: ImageSet


class ArrayImages(ImageSet):
    """Images of a uint8 array `[N, H, W, 3]`, resident or memory-mapped, in the order of `indices` (None: file order).

    The array is referred to, never copied: reading a batch copies that batch alone. A whole memory map is pickled as its
    file's name, and opened again where it arrives; any other array is pickled as a full copy.
    Raises TypeError unless array is uint8, ValueError unless it is `[N, H, W, 3]` and every index lies in 0..N-1.
    """

    decodes = False

    def __init__(self, array: np.ndarray, indices: np.ndarray | None = None):
        if array.dtype != np.uint8:
            raise TypeError(f"images must be uint8, got {array.dtype}")
        if array.ndim != 4 or array.shape[-1] != 3:
            raise ValueError(f"images must be [N, H, W, 3], got {list(array.shape)}")
        self.array = array
        self.indices = np.arange(len(array)) if indices is None else np.asarray(indices, dtype=np.int64)
        if len(self.indices) and not (0 <= self.indices.min() and self.indices.max() < len(array)):
            raise ValueError(f"indices must lie in 0..{len(array) - 1}, got {self.indices.min()}..{self.indices.max()}")
        self.image_shape = tuple(array.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the images that `indices` selects."""
        return len(self.indices) * math.prod(self.image_shape)

    @property
    def is_mapped(self) -> bool:
        """Whether the array is a whole file, mapped into memory."""
        return isinstance(self.array, np.memmap) and isinstance(self.array.base, mmap)

    def __reduce__(self):
        if not self.is_mapped:
            return super().__reduce__()
        return _reopened, (self.array.filename, self.array.offset, self.array.shape, self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.array[self.indices[index]]))

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.array[self.indices[indices]]))


def _reopened(path: Path, offset: int, shape: tuple[int, ...], indices: np.ndarray) -> ArrayImages:
    return ArrayImages(np.memmap(path, np.uint8, "r", offset, shape), indices)
