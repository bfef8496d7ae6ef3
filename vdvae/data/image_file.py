"""One image file: scaled and cropped to a square of RGB pixels."""

import struct
import zlib
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
DRAFT = 3  # times image_size: the smallest width and height at which a JPEG is decoded
UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: Path, image_size: int) -> np.ndarray:
    """One image file as uint8 [image_size, image_size, 3]; ValueError naming the file when it cannot be decoded.

    The camera's orientation tag is applied, transparency laid over white, 16-bit grey reduced to its upper 8 bits, the
    shorter side scaled to image_size (Lanczos), and the centre square taken. Of several frames the first one is read.
    A JPEG much larger than image_size is decoded at 1/2, 1/4 or 1/8 of its size: up to ten times faster, within two levels.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (DRAFT * image_size, DRAFT * image_size))
            upright = ImageOps.exif_transpose(image)
            square = ImageOps.fit(to_rgb(upright), (image_size, image_size), Image.Resampling.LANCZOS)
    except UNDECODABLE as error:
        raise ValueError(f"cannot decode image {path}: {error}") from error
    return np.array(square)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG, encoded before the file is opened: on a full disk an OSError is all that happens."""
    path.write_bytes(imageio.imwrite("<bytes>", image, extension=".png"))


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel, over white where it is transparent."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")
