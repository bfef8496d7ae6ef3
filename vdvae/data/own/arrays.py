"""Anybody's own images as .npy arrays, memory-mapped: any number of channels, 8 or 16 bits."""

from pathlib import Path

import numpy as np

from vdvae.data.files import map_array
from vdvae.data.images import BITS, ArrayImages, Splits
from vdvae.data.own.listing import digest_of
from vdvae.data.own.parts import HELD_OUT_PERCENT, PARTS, Parts

SEED = 7  # of the permutation that splits a single array


def array_files(root: Path) -> dict[str, Path]:
    """The file of each part: `root` for all if its name ends in .npy, else train.npy, valid.npy and test.npy in it.

    Empty for a folder without train.npy and valid.npy.
    """
    if root.suffix == ".npy":
        return dict.fromkeys(PARTS, root)
    found = {part: path for part in PARTS if (path := root / f"{part}.npy").exists()}
    return found if found.keys() & {"train", "valid"} else {}


def load_arrays(root: Path, image_size: int, known: Parts | None, channels: int | None, bits: int | None) -> Splits:
    """The images in array_files(root), [image_size, image_size, C], uint8 or uint16, left on disk.

    A single file is split by a permutation that depends on the number of images alone: 80% train, 10% valid, 10% test. Without
    test.npy, valid is also test. Raises FileNotFoundError for a missing file, and ValueError, naming the file, for what
    open_array refuses, fewer than 3 images to split, unlike arrays, and other arrays than those of the resumed run, `known`.
    """
    files = array_files(root)
    if not {"train", "valid"} <= files.keys():
        raise ValueError(f"{root} has {' and '.join(path.name for path in files.values())}: give both train.npy and valid.npy")
    arrays = {part: open_array(path, image_size, channels, bits) for part, path in files.items()}
    for part, array in arrays.items():
        if (array.shape[1:], array.dtype) != (arrays["train"].shape[1:], arrays["train"].dtype):
            raise ValueError(f"{files[part]} is {_words(array)}, unlike {files['train'].name}, {_words(arrays['train'])}")
    indices = _split(arrays["train"], root) if root in files.values() else dict.fromkeys(files)
    sets = {part: ArrayImages(array, indices[part]) for part, array in arrays.items()}
    digests = {part: {path.name: digest_of(path)} for part, path in files.items()}
    if known is not None and _contents(known) != _contents(digests):
        raise ValueError(f"{root} holds other arrays than this run was saved with: give the --data_root that has them, or begin a "
                         "new run from its weights with --restore_path")
    notes = [f"images: {', '.join(f'{part} {len(images)}' for part, images in sets.items())}, from {_words(arrays['train'])}"]
    for part, images in sets.items():
        images.files, images.notes, images.bits = digests[part], notes, bits or images.bits
    return Splits(sets["train"], sets["valid"], sets.get("test", sets["valid"]))


def open_array(path: Path, image_size: int, channels: int | None = None, bits: int | None = None) -> np.memmap:
    """The images of a .npy file, uint8 or uint16 [N, H, W, C], or [N, H, W] for one channel, mapped as [N, H, W, C].

    Raises FileNotFoundError; ValueError, naming the file, for another dtype or shape, another size or number of channels than these
    (None: any), and for fewer `bits` than its grey levels have: unless they are those of the dtype, the whole file is read for that.
    """
    array = map_array(path)
    if array.dtype not in BITS or array.ndim not in (3, 4) or not array.flags.c_contiguous:
        raise ValueError(f"{path} must hold uint8 or uint16 [N, H, W, C] or [N, H, W], in C order, found {_words(array)}: "
                         "docs/own_images.md shows how to convert it")
    images = np.memmap(path, array.dtype, "r", array.offset, (*array.shape, 1)[:4])
    wanted = (image_size, image_size, channels or images.shape[3])
    if images.shape[1:] != wanted:
        raise ValueError(f"{path} is {_words(array)}: its images must be {list(wanted)}, by image_size and channels")
    if bits is not None:
        _check_bits(images, bits, path)
    return images


def _check_bits(images: np.ndarray, bits: int, path: Path) -> None:
    stored = BITS[images.dtype]
    if not stored - 8 < bits <= stored:
        raise ValueError(f"{path} is {_words(images)}: its bits must be {stored - 7} to {stored}, not {bits}")
    top = max(int(image.max()) for image in images) if bits < stored else 0
    if top >= 2**bits:
        raise ValueError(f"{path} has the grey level {top}, above those of {bits} bits")


def _split(array: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """Sorted indices of each part."""
    held_out = max(1, len(array) * HELD_OUT_PERCENT // 100)
    if len(array) < 3:
        raise ValueError(f"{path} must hold at least 3 images to make train, valid and test, found {len(array)}")
    order = np.random.RandomState(SEED).permutation(len(array))
    train, valid, test = order[2 * held_out:], order[:held_out], order[held_out : 2 * held_out]
    return {"train": np.sort(train), "valid": np.sort(valid), "test": np.sort(test)}


def _contents(parts: Parts) -> list[list[str]]:
    return [list(files.values()) for files in parts.values()]


def _words(array: np.ndarray) -> str:
    """dtype and shape; of numbers that are no grey levels also the range of the first."""
    text = f"{array.dtype} {list(array.shape)}"
    if array.dtype.kind in "fi" and array.size:
        text += f", the first from {array[0].min()} to {array[0].max()}"
    return text
