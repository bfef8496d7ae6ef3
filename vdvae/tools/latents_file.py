"""The .npz file of a set of latents, written and read block by block on disk, never whole in memory."""

import contextlib
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vdvae.data.files import written_whole

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class LatentArrays:
    """z: one float32 array [N, zdim, res, res] a block, memory-mapped. names: the N images' file names."""

    z: list[np.ndarray]
    names: list[str]

    def batch(self, start: int, stop: int) -> list[np.ndarray]:
        """z of images start to stop, one array a block; ValueError where one is not finite, naming image and block."""
        batch = [z[start:stop] for z in self.z]
        for block, z in enumerate(batch):
            bad = np.flatnonzero(~np.isfinite(z).all(axis=(1, 2, 3)))
            if bad.size:
                raise ValueError(f"z of block {block} of {self.names[start + bad[0]]} is not finite")
        return batch


@contextlib.contextmanager
def writing(path: Path, names: Sequence[str], shapes: Sequence[Shape]) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Give arrays to fill: z [N, *shape] of each block, and kl [N, L], float32; after the block they are the file `path`.

    An error inside leaves no file. Raises OSError before any work unless the disk has room for the arrays twice.
    """
    _check_room(path.parent, 2 * len(names) * 4 * sum(math.prod(shape) + 1 for shape in shapes))
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        def new(name: str, *shape: int) -> np.ndarray:
            array = np.lib.format.open_memmap(Path(folder, f"{name}.npy"), "w+", np.float32, (len(names), *shape))
            if hasattr(os, "posix_fallocate"):  # on Linux; takes the room now, or raises OSError
                with open(array.filename, "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
            return array

        z, kl = [new(z_name(index), *shape) for index, shape in enumerate(shapes)], new("kl", len(shapes))
        yield z, kl
        for array in (*z, kl):
            array.flush()
        np.save(Path(folder, "names.npy"), np.array(names))
        # An uncompressed archive, as numpy.savez writes it.
        with written_whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for member in sorted(Path(folder).glob("*.npy")):
                archive.write(member, member.name)


@contextlib.contextmanager
def reading(path: Path, shapes: Sequence[Shape]) -> Iterator[LatentArrays]:
    """The file's latents of the first blocks (of all, or as many as it holds), for a model with `shapes`.

    Raises FileNotFoundError, or ValueError that names the file and what does not fit. Needs room for a copy of the
    arrays in the folder for temporary files.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with TemporaryDirectory() as folder:
        try:
            arrays = _unzip(path, Path(folder))
            latents = _checked(arrays, shapes)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: {error}") from error
        yield latents


def z_name(block: int) -> str:
    """The name of a block's array in the file."""
    return f"z_{block:03d}"


def _check_room(folder: Path, needed: int) -> None:
    """Raise OSError if the disk has no room: a write to a memory map on a full disk ends the process without a message."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB free, the latents need {needed / 1e9:.1f} GB while written")


def _unzip(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """The file names and every z, memory-mapped, in the order of the blocks."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in sorted(name for name in archive.namelist() if name == "names.npy" or name.startswith("z_")):
            copy = folder / f"{len(arrays)}.npy"
            with archive.open(member) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
            arrays[member.removesuffix(".npy")] = np.load(copy, mmap_mode="r", allow_pickle=False)
    return arrays


def _checked(arrays: dict[str, np.ndarray], shapes: Sequence[Shape]) -> LatentArrays:
    names = arrays.pop("names", None)
    if names is None or names.dtype.kind != "U" or names.ndim != 1 or not len(names):
        raise ValueError("names must be an array of one file name an image")
    if list(arrays) != [z_name(block) for block in range(len(arrays))] or not 1 <= len(arrays) <= len(shapes):
        raise ValueError(f"found {', '.join(arrays) or 'no z'}; z of the first blocks is needed, without gaps: "
                         f"{z_name(0)} up to at most {z_name(len(shapes) - 1)}")
    for (name, z), shape in zip(arrays.items(), shapes):
        if z.dtype != np.float32 or z.shape != (len(names), *shape):
            raise ValueError(f"{name} is {z.dtype} {list(z.shape)}, it must be float32 {[len(names), *shape]}")
    return LatentArrays(list(arrays.values()), names.tolist())
