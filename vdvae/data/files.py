"""Files: found, mapped and split into train and valid images; written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np


def require(path: Path, root: Path, how: str) -> Path:
    """`path` if it exists, else FileNotFoundError naming it, the data_root `root` and `how` to get it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing (data_root is {root}): {how}")
    return path


def map_array(path: Path) -> np.memmap:
    """The array of a .npy file, mapped read-only, nothing read yet; ValueError naming a file that is truncated or none."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path} is truncated or not a .npy file: {error}") from error


def open_images(path: Path, image_size: int) -> np.memmap:
    """The uint8 images `[N, image_size, image_size, 3]` of a .npy file, mapped as map_array does.

    Raises ValueError, naming the file, for another dtype or shape too.
    """
    array = map_array(path)
    expected = (image_size, image_size, 3)
    if array.dtype != np.uint8 or array.shape[1:] != expected:
        found = f"{array.dtype} {list(array.shape)}"
        raise ValueError(f"{path} must hold uint8 [N, {image_size}, {image_size}, 3], found {found}")
    return array


def split_last(images: np.ndarray, path: Path, seed: int, n_valid: int) -> tuple[np.ndarray, np.ndarray]:
    """(train, valid) int64 indices: numpy's legacy permutation of len(images), of which the last `n_valid` are valid.

    Raises ValueError naming the file `path` unless it holds more than `n_valid` images.
    """
    if len(images) <= n_valid:
        raise ValueError(f"{path} must hold more than the {n_valid} images kept for validation, found {len(images)}")
    order = np.random.RandomState(seed).permutation(len(images))
    return order[:-n_valid], order[-n_valid:]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path beside `path` at which the block makes a file or a folder; then flush it, rename it to `path`, flush the name.

    A reader finds the old content of `path` or the new one, never a part of it. An error in the block leaves `path`
    as it was, and nothing beside it. Folders above `path` are made.
    """
    partial = path.with_name(path.name + ".partial")
    with folder_if_used(path.parent):
        _remove(partial)
        try:
            yield partial
            _flush(partial)
            if partial.is_dir():
                _remove(path)  # a folder can be renamed only to a name that is free
            os.replace(partial, path)
            _flush_one(path.parent)
        except BaseException:
            _remove(partial)
            raise


@contextmanager
def folder_if_used(folder: Path) -> Iterator[None]:
    """Make `folder` and the folders above it; after the block remove those that are new and still empty."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in new:
            with suppress(OSError):  # it is not empty
                each.rmdir()


@contextmanager
def filled_whole(folder: Path) -> Iterator[None]:
    """Make `folder` if need be; the block puts files there, and an error in the block removes all that the block made."""
    with folder_if_used(folder):
        before = set(folder.iterdir())
        try:
            yield
        except BaseException:
            for each in set(folder.iterdir()) - before:
                _remove(each)
            raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    for each in (*path.iterdir(), path) if path.is_dir() else (path,):
        _flush_one(each)


def _flush_one(path: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open folders, and cannot flush a file that is open for reading only
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
