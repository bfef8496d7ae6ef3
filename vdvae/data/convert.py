"""Turn downloaded images into the .npy files that the loaders map: uint8 [N, S, S, 3], written a piece at a time.

python -m vdvae.data.convert imagenet SOURCE TARGET --image_size 32    # npz batches -> imagenet32-{train,valid}.npy
python -m vdvae.data.convert folder SOURCE TARGET.npy --image_size 256 # image files, sorted by path -> one .npy
"""

import argparse
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vdvae.data.files import written_whole
from vdvae.data.image_file import read_image
from vdvae.data.own.listing import list_images

ROWS = 4096
HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def main(arguments: list[str] | None = None) -> int:
    """Convert as `arguments` (None: the command line's) say; 2 after one line on stderr if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m vdvae.data.convert", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["imagenet", "folder"], help="what SOURCE holds: npz batches or image files")
    parser.add_argument("source", type=Path, help="folder with the downloaded files")
    parser.add_argument("target", type=Path, help="folder to write to (imagenet), or the .npy file (folder)")
    parser.add_argument("--image_size", type=int, required=True, help="pixels on a side")
    options = parser.parse_args(arguments)
    convert = convert_imagenet if options.kind == "imagenet" else convert_folder
    try:
        convert(options.source, options.target, options.image_size)
    except (OSError, ValueError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    return 0


def convert_imagenet(source: Path, target: Path, image_size: int) -> None:
    """Write `imagenet{S}-train.npy` and `imagenet{S}-valid.npy` into the folder `target` from downsampled ImageNet.

    source: folder with train_data_batch_1.npz, train_data_batch_2.npz, ... and val_data.npz; each has a `data` array,
    uint8 [n, 3 * S * S], channels first.
    Raises FileNotFoundError for a missing batch, ValueError, naming the file, for a malformed one.
    """
    parts = {"train": train_batches(source), "valid": [source / "val_data.npz"]}
    counts = {part: sum(count_rows(path, image_size) for path in paths) for part, paths in parts.items()}
    for part, paths in parts.items():
        pieces = (piece for path in paths for piece in read_rows(path, image_size))
        write_npy(target / f"imagenet{image_size}-{part}.npy", counts[part], image_size, pieces)


def convert_folder(source: Path, target: Path, image_size: int) -> None:
    """Write all images below `source`, sorted by path, scaled and cropped to image_size, to `target`.

    Raises FileNotFoundError when there are none, ValueError naming a file that cannot be decoded.
    """
    paths = list_images(source)
    write_npy(target, len(paths), image_size, (read_image(path, image_size)[None] for path in paths))


def train_batches(source: Path) -> list[Path]:
    """The training batches of `source` by number; FileNotFoundError for none, or for a gap in 1, 2, 3, ..."""
    last = max((int(path.stem.split("_")[-1]) for path in source.glob("train_data_batch_[0-9]*.npz")), default=1)
    batches = [source / f"train_data_batch_{number}.npz" for number in range(1, last + 1)]
    for batch in batches:
        if not batch.exists():
            raise FileNotFoundError(f"{batch} is missing")
    return batches


@contextmanager
def open_batch(path: Path, image_size: int) -> Iterator[tuple[BinaryIO, int]]:
    """(stream at the first image, number of images) of an npz batch; ValueError naming the file for a malformed one."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data.npy") as stream:
            read_header = HEADER_READERS[np.lib.format.read_magic(stream)]
            shape, fortran_order, dtype = read_header(stream)
            if dtype != np.uint8 or shape[1:] != (3 * image_size**2,) or fortran_order:
                found = f"{dtype} {list(shape)}{' in Fortran order' * fortran_order}"
                raise ValueError(f"data must be uint8 [n, {3 * image_size**2}], found {found}")
            yield stream, shape[0]
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a batch of {image_size}x{image_size} images: {error}") from error


def count_rows(path: Path, image_size: int) -> int:
    """Number of images in an npz batch, read from its header alone."""
    with open_batch(path, image_size) as (_, count):
        return count


def read_rows(path: Path, image_size: int) -> Iterator[np.ndarray]:
    """Images of an npz batch, at most 4096 at a time: uint8 [n, S, S, 3]."""
    with open_batch(path, image_size) as (stream, count):
        for start in range(0, count, ROWS):
            rows = stream.read(min(ROWS, count - start) * 3 * image_size**2)
            yield np.frombuffer(rows, np.uint8).reshape(-1, 3, image_size, image_size).transpose(0, 2, 3, 1)


def write_npy(path: Path, count: int, image_size: int, pieces: Iterable[np.ndarray]) -> None:
    """Write `count` images, given as pieces uint8 [n, S, S, 3], to `path`; it appears complete or not at all.

    Raises ValueError when the pieces do not add up to `count`, OSError on a full disk.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, image_size, image_size, 3)}
    with written_whole(path) as partial, open(partial, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        filled = 0
        for piece in pieces:
            file.write(piece.tobytes())
            filled += len(piece)
        if filled != count:
            raise ValueError(f"{path} should get {count} images, got {filled}")
    print(f"{path}: {count} images of {image_size}x{image_size}")


if __name__ == "__main__":
    raise SystemExit(main())
