"""ImageNet at 32x32 and 64x64 from memory-mapped .npy files, with the original VDVAE's split of the training file."""

from pathlib import Path

from vdvae.data.files import open_images, require
from vdvae.data.images import ArrayImages
from vdvae.data.splits import Splits, split_last

SPLIT_SEED = 42
VALID_IMAGES = 5_000


def load_imagenet(root: Path, image_size: int) -> Splits:
    """uint8 [S, S, 3] images of `imagenet{S}-train.npy` (train, and 5,000 for valid), `imagenet{S}-valid.npy` (test).

    The files stay on disk; what is held in memory is one int64 index for each image.
    Raises FileNotFoundError for a missing file, ValueError, naming the file, for a malformed one.
    """
    how = f"run_scripts/setup_imagenet.sh imagenet{image_size} makes it"
    train_path = require(root / f"imagenet{image_size}-train.npy", root, how)
    test_path = require(root / f"imagenet{image_size}-valid.npy", root, how)
    train = open_images(train_path, image_size)
    train_indices, valid_indices = split_last(train, train_path, SPLIT_SEED, VALID_IMAGES)
    test = ArrayImages(open_images(test_path, image_size))
    return Splits(ArrayImages(train, train_indices), ArrayImages(train, valid_indices), test)
