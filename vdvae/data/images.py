"""Sets of images `[H, W, C]`: the interface, the kind that is an array in memory or on disk, and three parts of one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

BITS = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}  # of a channel


def dtype_of(bits: int) -> torch.dtype:
    """The dtype of images whose grey levels have so many bits, 16 at most."""
    return torch.uint8 if bits <= 8 else torch.uint16


class ImageSet(Dataset, ABC):
    """Images of one shape and one depth.

    image_shape: (H, W, C).
    bits: of a grey level; up to 8 the images are uint8, above that uint16.
    decodes: True where items are decoded from files, so that worker processes help.
    files: digests of the files by relative path, where the set is a part of a folder.
    notes: lines for the log on how the whole folder was read.
    broken: messages, by path, on files in whose place another one was read.
    """

    image_shape: tuple[int, int, int]
    bits: int = 8
    decodes: bool
    files: dict[str, str] = {}
    notes: Sequence[str] = ()
    broken: dict[str, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> torch.Tensor:
        """Image `index` as uint8 or uint16 `[H, W, C]`; IndexError beyond the end."""

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        """The images at `indices`, in that order, as one batch `[B, H, W, C]`."""
        return torch.stack([self[index] for index in indices])


class Splits(NamedTuple):
    """The three parts of a data set; `valid` and `test` may be the same object."""

    train: ImageSet
    valid: ImageSet
    test: ImageSet


class ArrayImages(ImageSet):
    """Images of an array `[N, H, W, C]`, uint8 or uint16, resident or memory-mapped, in the order of `indices` (None: file order).

    The array is referred to, never copied: reading a batch copies that batch alone. A whole memory map is pickled as its
    file's name, and opened again where it arrives; any other array is pickled as a full copy.
    Raises TypeError for another dtype, ValueError unless the array is `[N, H, W, C]` and every index lies in 0..N-1.
    """

    decodes = False

    def __init__(self, array: np.ndarray, indices: np.ndarray | None = None):
        if array.dtype not in BITS:
            raise TypeError(f"images must be uint8 or uint16, got {array.dtype}")
        if array.ndim != 4:
            raise ValueError(f"images must be [N, H, W, C], got {list(array.shape)}")
        self.array = array
        self.indices = np.arange(len(array)) if indices is None else np.asarray(indices, dtype=np.int64)
        if len(self.indices) and not (0 <= self.indices.min() and self.indices.max() < len(array)):
            raise ValueError(f"indices must lie in 0..{len(array) - 1}, got {self.indices.min()}..{self.indices.max()}")
        self.image_shape, self.bits = tuple(array.shape[1:]), BITS[array.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of the images that `indices` selects."""
        return len(self.indices) * math.prod(self.image_shape) * self.array.itemsize

    @property
    def is_mapped(self) -> bool:
        """Whether the array is a whole file, mapped into memory."""
        return isinstance(self.array, np.memmap) and isinstance(self.array.base, mmap)

    def __reduce__(self):
        if not self.is_mapped:
            return super().__reduce__()
        return _reopened, (self.array.filename, self.array.dtype, self.array.offset, self.array.shape, self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.array[self.indices[index]]))

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.array[self.indices[indices]]))


def _reopened(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...], indices: np.ndarray) -> ArrayImages:
    return ArrayImages(np.memmap(path, dtype, "r", offset, shape), indices)
