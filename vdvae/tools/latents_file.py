"""The .npz file of a set of latents, written and read block by block on disk, never whole in memory."""

import contextlib
import io
import math
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vdvae.data.files import written_whole

Shape = tuple[int, int, int]
_LONGEST_HEADER = 4096  # bytes
_LARGE, _MOST_TIMES = 10**9, 100  # arrays with more bytes, and so many times more than the file, are no latents
_DAMAGE = (ValueError, EOFError, RuntimeError, OverflowError, struct.error, zlib.error, zipfile.BadZipFile)


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

    Raises FileNotFoundError, OSError if the folder for temporary files has no room for a copy of the arrays, or ValueError that
    names the file and what does not fit. Names, sizes, dtypes and shapes are checked before any array is read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(archive, shapes)
                needed = sum(info.file_size for info in members.values())
                if needed > max(_LARGE, _MOST_TIMES * path.stat().st_size):
                    raise ValueError(f"its arrays have {needed / 1e9:.1f} GB, more than {_MOST_TIMES} times the file: no latents")
                _check_room(Path(folder), needed)
                arrays = {name: _copied(archive, info, Path(folder, info.filename)) for name, info in members.items()}
            latents = LatentArrays([arrays[name] for name in members if name != "names"], arrays["names"].tolist())
        except _DAMAGE as error:
            raise ValueError(f"{path}: {error or type(error).__name__}") from error
        yield latents


def z_name(block: int) -> str:
    """The name of a block's array in the file."""
    return f"z_{block:03d}"


def _check_room(folder: Path, needed: int) -> None:
    """Raise OSError if the disk has no room: a write to a memory map on a full disk ends the process without a message."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB free, the latents need {needed / 1e9:.1f} GB")


def _members(archive: zipfile.ZipFile, shapes: Sequence[Shape]) -> dict[str, zipfile.ZipInfo]:
    """The file names and every z, in the order of the blocks; ValueError for what cannot be latents of a model with `shapes`."""
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    possible = [z_name(block) for block in range(len(shapes))]
    for info in archive.infolist():
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is encrypted, or not packed as numpy packs")
    z = sorted(infos.keys() - {"names", "kl"})
    if not z or z != possible[: len(z)]:
        raise ValueError(f"found {', '.join(z)[:200] or 'no z'}; z of the first blocks is needed, without gaps: "
                         f"{possible[0]} up to at most {possible[-1]}")
    if len(infos) < len(archive.infolist()) or any(info.filename != f"{name}.npy" for name, info in infos.items()):
        raise ValueError("an array is there twice, or has no .npy at the end of its name")
    names, dtype = _header(archive, infos["names"]) if "names" in infos else ((), None)
    if len(names) != 1 or names[0] < 1 or dtype.kind != "U":
        raise ValueError("names must be an array of one file name an image")
    for name, shape in zip(z, shapes):
        found, dtype = _header(archive, infos[name])
        if dtype != np.float32 or found != (*names, *shape):
            raise ValueError(f"{name} is {dtype} {list(found)}, it must be float32 {[*names, *shape]}")
    return {name: infos[name] for name in ("names", *z)}


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, of which no more than the header is read; ValueError unless its size is theirs."""
    with archive.open(info) as source:
        start = io.BytesIO(source.read(_LONGEST_HEADER))
    try:
        version = np.lib.format.read_magic(start)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(start)
    except Exception as error:  # numpy documents ValueError alone, and raises others
        raise ValueError(f"{info.filename} is no array: {error}") from error
    if info.file_size != start.tell() + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{info.filename} is {dtype} {list(shape)}, but has {info.file_size} bytes")
    return shape, dtype


def _copied(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> np.ndarray:
    with archive.open(info) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    return np.load(target, mmap_mode="r", allow_pickle=False)
