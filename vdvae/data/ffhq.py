"""FFHQ faces at 256x256 from one memory-mapped .npy file, and at 1024x1024 from folders of image files."""

from pathlib import Path

from vdvae.data.files import open_images, require
from vdvae.data.folder import FolderImages, list_images
from vdvae.data.images import ArrayImages
from vdvae.data.splits import Splits, split_last

SPLIT_SEED = 5
VALID_IMAGES = 7_000


def load_ffhq_256(root: Path) -> Splits:
    """Images of `ffhq-256.npy`, uint8 [256, 256, 3], left on disk; the last 7,000 of a permutation are valid and test.

    Raises FileNotFoundError for a missing file, ValueError, naming the file, for a malformed one.
    """
    path = require(root / "ffhq-256.npy", root, "run_scripts/setup_ffhq256.sh makes it")
    images = open_images(path, 256)
    train_indices, valid_indices = split_last(images, path, SPLIT_SEED, VALID_IMAGES)
    valid = ArrayImages(images, valid_indices)
    return Splits(ArrayImages(images, train_indices), valid, valid)


def load_ffhq_1024(root: Path) -> Splits:
    """Images, decoded when read, of `ffhq1024/train` and `ffhq1024/valid` (also test), uint8 [1024, 1024, 3].

    Raises FileNotFoundError for a missing folder or one without images.
    """
    folders = [root / "ffhq1024" / part for part in ("train", "valid")]
    for folder in folders:
        require(folder, root, f"run_scripts/setup_ffhq1024.sh {root} arranges it")
    train, valid = (FolderImages(list_images(folder), 1024) for folder in folders)
    return Splits(train, valid, valid)
