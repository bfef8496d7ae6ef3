"""Folders of PNG and JPEG files, scaled and cropped to one square size: anybody's own, and FFHQ at 1024x1024."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from vdvae.data.files import require
from vdvae.data.images import ImageSet, Splits

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLIT_SEED = 0
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


class FolderImages(ImageSet):
    """Image files decoded when read: the shorter side scaled to image_size (Lanczos), then the centre square, as RGB.

    The camera's orientation tag is applied, transparency laid over white, 16-bit grey reduced to its upper 8 bits.
    Reading an item raises ValueError naming the file when it cannot be decoded.
    """

    decodes = True

    def __init__(self, paths: list[Path], image_size: int):
        self.paths = paths
        self.image_shape = (image_size, image_size, 3)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(read_image(self.paths[index], self.image_shape[0]))


def load_folder(root: Path, image_size: int) -> Splits:
    """The images below `root`, uint8 [image_size, image_size, 3].

    With subfolders train/ and valid/ (and test/, else valid is also test) these are the splits. Otherwise one in ten
    images, at least one, is valid and as many are test, by a fixed permutation of the sorted paths.
    Raises FileNotFoundError where a folder or its images are missing, ValueError for fewer than 3 images to split or
    for only one of train/ and valid/.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data_root {root} is no folder: dataset folder reads {_suffixes()} images below it")
    named = [part for part in ("train", "valid") if (root / part).is_dir()]
    if len(named) == 1:
        raise ValueError(f"{root} has a subfolder {named[0]}/ alone: give both train/ and valid/, or neither")
    parts = named_parts(root) if named else random_parts(list_images(root), root)
    return Splits(*(FolderImages(part, image_size) for part in parts))


def load_ffhq_1024(root: Path) -> Splits:
    """The images of `ffhq1024/train` and `ffhq1024/valid` (also test), uint8 [1024, 1024, 3].

    Raises FileNotFoundError for a missing folder or one without images.
    """
    folders = [root / "ffhq1024" / part for part in ("train", "valid")]
    for folder in folders:
        require(folder, root, f"run_scripts/setup_ffhq1024.sh {root} arranges it")
    train, valid = (FolderImages(list_images(folder), 1024) for folder in folders)
    return Splits(train, valid, valid)


def named_parts(root: Path) -> list[list[Path]]:
    """Image paths of root/train, root/valid and root/test (root/valid where there is no test folder)."""
    test = "test" if (root / "test").is_dir() else "valid"
    return [list_images(root / part) for part in ("train", "valid", test)]


def random_parts(paths: list[Path], root: Path) -> list[list[Path]]:
    """`paths` in three parts, train, valid and test; the same for the same number of paths."""
    if len(paths) < 3:
        raise ValueError(f"{root} must hold at least 3 images to make train, valid and test, found {len(paths)}")
    order = np.random.RandomState(SPLIT_SEED).permutation(len(paths))
    held_out = max(1, len(paths) // 10)
    valid, test, train = np.split(order, [held_out, 2 * held_out])
    return [[paths[i] for i in part] for part in (train, valid, test)]


def list_images(root: Path) -> list[Path]:
    """PNG and JPEG files at any depth below `root`, sorted by relative path; hidden files and folders are left out.

    Links to files are followed, links to folders are not. Raises FileNotFoundError when there is none.
    """
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    images = [path for path in found if path.suffix.lower() in SUFFIXES]
    if not images:
        raise FileNotFoundError(f"no images below {root}: files must end in {_suffixes()}")
    return sorted(images, key=lambda path: path.relative_to(root).as_posix())


def read_image(path: Path, image_size: int) -> np.ndarray:
    """One image file as uint8 [image_size, image_size, 3]; ValueError naming the file when it cannot be decoded."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            square = ImageOps.fit(to_rgb(upright), (image_size, image_size), Image.Resampling.LANCZOS)
    except _UNDECODABLE as error:
        raise ValueError(f"cannot decode image {path}: {error}") from error
    return np.array(square)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel, over white where it is transparent."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _suffixes() -> str:
    return ", ".join(SUFFIXES)
