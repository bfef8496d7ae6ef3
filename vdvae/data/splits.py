"""Data sets by name: `load_splits` gives train, valid and test images."""

from pathlib import Path

from vdvae.data.images import Splits
from vdvae.data.own import arrays, folder
from vdvae.data.own.parts import Parts
from vdvae.data.sets import cifar10, mnist, npy_files, photos
from vdvae.data.spec import DATASETS


def load_splits(name: str, data_root: str, image_size: int, seed: int = 0, known: Parts | None = None,
                channels: int | None = None, bits: int | None = None) -> Splits:
    """Train, valid and test images (`[H, W, C]`) of the data set `name`, read from the folder `data_root`.

    image_size: pixels on a side; chosen freely for `folder`, a fact for every other set.
    seed: draws the ten images of photos32_ten; every other split is the same for all seeds.
    known: for folders of images, the parts of a saved run that is resumed (see folder.load_folder).
    channels, bits: for `folder`, those that image files are read with and that arrays must have; None: what they have.
    Raises ValueError for an unknown name, an image_size that the set does not have or a malformed file, and
    FileNotFoundError, naming the script that gets it, for a missing one.
    """
    _check(name, image_size)
    root = Path(data_root)
    match name:
        case "cifar10":
            return cifar10.load_cifar10(root)
        case "imagenet32" | "imagenet64":
            return npy_files.load_imagenet(root, image_size)
        case "ffhq_256":
            return npy_files.load_ffhq_256(root)
        case "ffhq_1024":
            return folder.load_ffhq_1024(root, known)
        case "photos32":
            return photos.load_photos32()
        case "photos32_ten":
            return photos.load_photos32_ten(seed)
        case "mnist":
            return mnist.load_mnist(root)
        case "folder":
            load = arrays.load_arrays if arrays.array_files(root) else folder.load_folder
            return load(root, image_size, known, channels, bits)


def _check(name: str, image_size: int) -> None:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}")
    has = DATASETS[name].image_size
    if has is not None and image_size != has:
        raise ValueError(f"dataset {name} has images of size {has}, not {image_size}")
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 for dataset {name}, got {image_size}")
