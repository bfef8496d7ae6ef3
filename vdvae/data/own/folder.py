"""Folders of image files, scaled and cropped to one square size: anybody's own, and FFHQ at 1024x1024."""

import sys
from pathlib import Path

import torch

from vdvae.data.files import require
from vdvae.data.image_file import SUFFIXES, FileFormat, read_image
from vdvae.data.images import ImageSet, Splits
from vdvae.data.own.formats import common_format
from vdvae.data.own.listing import checked_images
from vdvae.data.own.parts import PARTS, Files, Parts, changes, split_by_name

Formats = dict[str, FileFormat]  # by relative path
TRIES = 10  # images in a row that may be broken


class FolderImages(ImageSet):
    """Image files decoded by read_image when read; reading one that cannot be decoded raises ValueError naming the file."""

    decodes = True

    def __init__(self, paths: list[Path], image_size: int, channels: int = 3, bits: int = 8):
        self.paths = paths
        self.image_shape, self.bits = (image_size, image_size, channels), bits

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._read(self.paths[index])

    def _read(self, path: Path) -> torch.Tensor:
        _, size, channels = self.image_shape
        return torch.from_numpy(read_image(path, size, channels, self.bits))


class PartOfFolder(FolderImages):
    """The images of a run; in place of one that cannot be decoded any more comes the next one.

    Such files are named on stderr once and kept in `broken`. Reading raises ValueError after TRIES of them in a row.
    """

    def __init__(self, root: Path, files: Files, image_size: int, notes: list[str], channels: int = 3, bits: int = 8):
        super().__init__([root / name for name in files], image_size, channels, bits)
        self.files, self.notes, self.broken = files, notes, {}

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= len(self):
            raise IndexError(f"there are {len(self)} images, and no image {index}")
        for place in range(index, index + TRIES):
            path = self.paths[place % len(self)]
            try:
                return self._read(path)
            except ValueError as error:
                self._report(str(path), str(error))
        raise ValueError(f"{TRIES} images in a row cannot be read, up to {path}")

    def _report(self, path: str, message: str) -> None:
        if path not in self.broken:
            print(f"error: {message}; the next image takes its place", file=sys.stderr)
        self.broken[path] = message


def load_folder(root: Path, image_size: int, known: Parts | None = None, channels: int | None = None,
                bits: int | None = None) -> Splits:
    """The images below `root`, [image_size, image_size, C], uint8 or uint16: those of common_format.

    With subfolders train/ and valid/ (and test/, else valid is also test) these are the splits. Otherwise the split is that
    of split_by_name. `known` has the parts of a saved run that is resumed; it is empty if the run did not save them.
    Raises FileNotFoundError where a folder or its images are missing, ValueError for fewer than 3 images to split, for
    only one of train/ and valid/, for too many files that cannot be used, for images of unlike channels or bits, and for a
    run that cannot be resumed with these images.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data_root {root} is no folder: dataset folder reads the {', '.join(SUFFIXES)} images below it")
    named = [part for part in ("train", "valid") if (root / part).is_dir()]
    if len(named) == 1:
        raise ValueError(f"{root} has a subfolder {named[0]}/ alone: give both train/ and valid/, or neither")
    parts, formats, notes = _named_parts(root) if named else _parts_by_name(root, known)
    channels, bits, changed = common_format(formats, channels, bits)
    notes += changed + (changes(parts, known) if known else [])
    notes.append("images: " + ", ".join(f"{part} {len(files)}" for part, files in parts.items()))
    train, valid, *test = (PartOfFolder(root, files, image_size, notes, channels, bits) for files in parts.values())
    return Splits(train, valid, *(test or [valid]))


def load_ffhq_1024(root: Path, known: Parts | None = None) -> Splits:
    """The images of `ffhq1024/train` and `ffhq1024/valid` (also test), uint8 [1024, 1024, 3].

    Raises FileNotFoundError for a missing folder or one without images.
    """
    for part in ("train", "valid"):
        require(root / "ffhq1024" / part, root, f"run_scripts/setup_ffhq1024.sh {root} arranges it")
    return load_folder(root / "ffhq1024", 1024, known, channels=3, bits=8)


def _named_parts(root: Path) -> tuple[Parts, Formats, list[str]]:
    """The files of the subfolders train/, valid/ and, where it is there, test/; and lines for the log."""
    parts, formats, notes = {}, {}, []
    for part in PARTS:
        if (root / part).is_dir():
            found = checked_images(root / part)
            parts[part] = {f"{part}/{name}": digest for name, digest in found.digests.items()}
            formats |= {f"{part}/{name}": each for name, each in found.formats.items()}
            notes += found.notes
    return parts, formats, notes


def _parts_by_name(root: Path, known: Parts | None) -> tuple[Parts, Formats, list[str]]:
    found = checked_images(root)
    if len(found.digests) < 3:
        raise ValueError(f"{root} must hold at least 3 images to make train, valid and test, found {len(found.digests)}")
    if known == {}:
        raise ValueError("this run was saved when a folder was split by the number of its images, so its held-out images are not "
                         "known any more: begin a new run from its weights with --restore_path")
    parts, said = split_by_name(found.digests, known or {})
    return parts, found.formats, found.notes + said
