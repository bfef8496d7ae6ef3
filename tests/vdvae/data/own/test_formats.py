"""Which channels and bits a folder's images have: read from their headers, agreed on, or asked for."""

from pathlib import Path

import numpy as np
import pytest
import skimage
import tifffile
from PIL import Image

from vdvae.data.image_file import FileFormat, format_of
from vdvae.data.own.folder import load_folder
from vdvae.data.own.formats import common_format

SKIMAGE = Path(skimage.__file__).parent / "data"
DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16


@pytest.mark.parametrize("mode, expected", [
    ("1", (1, 8)), ("L", (1, 8)), ("LA", (2, 8)), ("P", (3, 8)), ("RGB", (3, 8)), ("RGBA", (4, 8)), ("CMYK", (3, 8)),
    ("I;16", (1, 16)), ("I;16B", (1, 16)),
])
def test_each_mode(tmp_path, mode, expected):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16B") else "a.png")
    Image.new(mode, (4, 4)).save(path)
    with Image.open(path) as image:
        assert format_of(image) == expected


def deep_colour(path: Path) -> Path:
    """A TIFF of 16 bits in three channels, which Pillow reads in 8."""
    tifffile.imwrite(path, np.stack([DEEP] * 3, axis=-1), photometric="rgb")
    return path


def test_colour_of_sixteen_bits_is_seen_and_read_in_eight_alone(tmp_path):
    deep_colour(tmp_path / "a.tif"), deep_colour(tmp_path / "b.tif"), deep_colour(tmp_path / "c.tif")
    with pytest.raises(ValueError, match=r"not from these \(a.tif, b.tif, c.tif\): --bits 8 takes the upper 8 .* .npy"):
        load_folder(tmp_path, 64)
    train = load_folder(tmp_path, 64, bits=8).train
    assert "of 3 images 3 have 16 bits and are reduced to 8" in train.notes and train.image_shape == (64, 64, 3)
    np.testing.assert_array_equal(train[0], np.stack([DEEP >> 8] * 3, axis=-1))


@pytest.mark.parametrize("bits, channels, words", [
    (None, None, "differ in channels: 2 have 3; 1 have 1: c; --channels 3 or 1"),
    (None, 3, "differ in bits: 2 have 8; 1 have 16: c; --bits 8"),
    (16, 1, r"not from these \(a, b\)"), (12, 3, r"not from these \(a, b\)"), (5, 1, "bits is 5"), (8, 5, "channels is 5 .* .npy"),
])
def test_files_that_differ_are_named_with_the_way_out(bits, channels, words):
    files = {"a": FileFormat(3, 8), "b": FileFormat(4, 8), "c": FileFormat(1, 16)}
    with pytest.raises(ValueError, match=words):
        common_format(files, channels, bits)


def test_what_is_asked_for_converts_all_and_the_notes_say_it():
    files = {"a": FileFormat(3, 8), "b": FileFormat(4, 8), "c": FileFormat(1, 16), "d": FileFormat(1, 8)}
    transparent = "of 4 images 1 are transparent and are laid over white (--channels 4 keeps transparency)"
    assert common_format(files, 3, 8) == (
        3, 8, ["of 4 images 2 are grey and become colour", transparent, "of 4 images 1 have 16 bits and are reduced to 8"])
    assert common_format(files, 4, 8)[2] == ["of 4 images 2 are grey and become colour", "of 4 images 1 have 16 bits and are reduced to 8"]
    assert common_format(files, 1, 8)[2][:2] == ["of 4 images 2 are colour and become grey", transparent]
    assert common_format({"c": FileFormat(1, 16)}, None, 12) == (1, 12, [])


@pytest.mark.parametrize("names, shape, note", [
    (["camera.png", "coins.png", "moon.png", "multipage.tif"], (16, 16, 1), "images: train"),
    (["coffee.png", "rocket.jpg", "retina.jpg"], (16, 16, 3), "images: train"),
    (["horse.png", "logo.png", "astronaut.png"], (16, 16, 3), "of 3 images 2 are transparent and are laid over white"),
])
def test_images_of_scikit_image_keep_their_channels(tmp_path, names, shape, note):
    for name in names:
        (tmp_path / name).symlink_to(SKIMAGE / name)
    splits = load_folder(tmp_path, 16)
    assert all(tuple(images[0].shape) == images.image_shape == shape for images in splits)
    assert any(line.startswith(note) for line in splits.train.notes)


def test_an_old_cache_is_read_anew(tmp_path, write_flat, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(3):
        write_flat(f"pictures/{i}.png", i)
    first = load_folder(tmp_path / "pictures", 4).train.files
    [file] = (tmp_path / "cache/vdvae").iterdir()
    new = file.read_text()
    file.write_text(new.replace(", 3, 8]", "]"))
    assert load_folder(tmp_path / "pictures", 4).train.files == first and file.read_text() == new
