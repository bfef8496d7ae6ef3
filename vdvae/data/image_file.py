"""One image file: read as a square of grey, RGB or RGBA pixels, and written as PNG."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
DRAFT = 3  # times image_size: the smallest width and height at which a JPEG is decoded
UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


class FileFormat(NamedTuple):
    """What a file's header says of its pixels.

    channels: 1 grey, 2 grey with transparency, 3 colour, 4 colour with transparency. bits: 8 or 16 a channel.
    """

    channels: int
    bits: int

    @property
    def colours(self) -> int:
        """Channels without transparency."""
        return 1 if self.channels < 3 else 3


def format_of(image: Image.Image) -> FileFormat:
    """The format of an opened file; ValueError for pixels of 32 bits."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ValueError("pixels of 32 bits, 8 and 16 can be read")
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    deep = image.mode.startswith("I") or ";16" in str(image.tile)  # colour of 16 bits has a mode of 8 bits
    return FileFormat((1 if grey else 3) + image.has_transparency_data, 16 if deep else 8)


def read_image(path: Path, image_size: int, channels: int = 3, bits: int = 8) -> np.ndarray:
    """One image file as [image_size, image_size, channels], uint8, or with more than 8 bits uint16 and 1 channel.

    The camera's orientation tag is applied, the shorter side scaled to image_size (Lanczos), and the centre square taken.
    Transparency is laid over white, unless there are 4 channels. With 8 bits, 16-bit grey is reduced to its upper 8.
    Of several frames the first one is read.
    A JPEG much larger than image_size is decoded at 1/2, 1/4 or 1/8 of its size: up to ten times faster, within two levels.
    Raises ValueError naming the file when it cannot be decoded, and when a grey level has more than `bits`.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (DRAFT * image_size, DRAFT * image_size))
            upright = ImageOps.exif_transpose(image)
            pixels = to_mode(upright, MODES[channels]) if bits <= 8 else _to_float(upright, bits)
            square = np.array(ImageOps.fit(pixels, (image_size, image_size), Image.Resampling.LANCZOS))
    except UNDECODABLE as error:
        raise ValueError(f"cannot decode image {path}: {error}") from error
    if bits > 8:
        square = square.round().clip(0, 2**bits - 1).astype(np.uint16)
    return square.reshape(image_size, image_size, channels)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode L, RGB or RGBA, 8 bits a channel; in L and RGB it lies over white where it is transparent."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data and mode != "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)


def _to_float(image: Image.Image, bits: int) -> Image.Image:
    """An image of 16-bit grey as float32, which holds each grey level exactly."""
    levels = np.asarray(image)
    if levels.max() >= 2**bits:
        raise ValueError(f"it has the grey level {levels.max()}, above those of {bits} bits")
    return Image.fromarray(levels.astype(np.float32))


def shown(images: np.ndarray, bits: int, channels: Sequence[int] = ()) -> np.ndarray:
    """Images [..., C] of `bits` for a PNG to look at: these channels, in grey, RGB or RGBA, over the whole range of the dtype.

    Without `channels`: grey, RGB and RGBA stay; of more channels the first three are taken, of two the first. Colour is uint8.
    """
    if not channels and images.shape[-1] not in MODES:
        channels = range(3 if images.shape[-1] > 3 else 1)
    if channels:
        images = images[..., list(channels)]
    images = images * images.dtype.type(np.iinfo(images.dtype).max // (2**bits - 1))
    return (images >> 8).astype(np.uint8) if images.dtype == np.uint16 and images.shape[-1] > 1 else images


def write_png(path: Path, image: np.ndarray) -> None:
    """Write [H, W, C] as PNG: grey of 8 or 16 bits, RGB or RGBA of 8.

    The image is encoded before the file is opened: on a full disk an OSError is all that happens.
    """
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    path.write_bytes(imageio.imwrite("<bytes>", pixels, extension=".png"))


def write_image(path: Path, image: np.ndarray, bits: int, channels: Sequence[int] = ()) -> None:
    """Write [H, W, C] as PNG: as it is, or if PNG cannot hold it or `channels` are given, as `shown`, with all of it in a .npy beside."""
    if not channels and image.shape[-1] in (MODES if image.dtype == np.uint8 else [1]):
        return write_png(path, image)
    write_png(path, shown(image, bits, channels))
    np.save(path.with_suffix(".npy"), image)
