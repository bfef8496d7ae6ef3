"""ImageNet at 32x32 and 64x64 and FFHQ at 256x256 from memory-mapped .npy files, with the original VDVAE's splits."""

from pathlib import Path

from vdvae.data.files import open_images, require, split_last
from vdvae.data.images import ArrayImages, Splits

IMAGENET_SEED, IMAGENET_VALID = 42, 5_000
FFHQ_SEED, FFHQ_VALID = 5, 7_000


def load_imagenet(root: Path, image_size: int) -> Splits:
    """uint8 [S, S, 3] images of `imagenet{S}-train.npy` (train, and 5,000 for valid), `imagenet{S}-valid.npy` (test).

    The files stay on disk; memory holds one int64 index for each image.
    Raises FileNotFoundError for a missing file, ValueError, naming the file, for a malformed one.
    """
    how = f"run_scripts/setup_imagenet.sh imagenet{image_size} makes it"
    train_path = require(root / f"imagenet{image_size}-train.npy", root, how)
    test_path = require(root / f"imagenet{image_size}-valid.npy", root, how)
    train = open_images(train_path, image_size)
    train_indices, valid_indices = split_last(train, train_path, IMAGENET_SEED, IMAGENET_VALID)
    test = ArrayImages(open_images(test_path, image_size))
    return Splits(ArrayImages(train, train_indices), ArrayImages(train, valid_indices), test)


def load_ffhq_256(root: Path) -> Splits:
    """Images of `ffhq-256.npy`, uint8 [256, 256, 3], left on disk; the last 7,000 of a permutation are valid and test.

    Raises FileNotFoundError for a missing file, ValueError, naming the file, for a malformed one.
    """
    path = require(root / "ffhq-256.npy", root, "run_scripts/setup_ffhq256.sh makes it")
    images = open_images(path, 256)
    train_indices, valid_indices = split_last(images, path, FFHQ_SEED, FFHQ_VALID)
    valid = ArrayImages(images, valid_indices)
    return Splits(ArrayImages(images, train_indices), valid, valid)
