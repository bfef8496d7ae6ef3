"""How each kind of image file becomes a square of pixels, and pixels a PNG."""

import numpy as np
import pytest
from PIL import Image

from vdvae.data import image_file
from vdvae.data.image_file import read_image, shown, to_mode, write_image, write_png


def save(tmp_path, image: Image.Image, name: str = "image.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_an_image_of_the_right_size_is_read_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path, Image.fromarray(pixels)), 6), pixels)


def test_centre_of_the_longer_side_is_kept(tmp_path):
    pixels = np.broadcast_to(np.arange(10, dtype=np.uint8)[None, :, None], (4, 10, 3)).copy()
    np.testing.assert_array_equal(read_image(save(tmp_path, Image.fromarray(pixels)), 4), pixels[:, 3:7])
    upright = Image.fromarray(pixels.transpose(1, 0, 2).copy())
    np.testing.assert_array_equal(read_image(save(tmp_path, upright), 4), pixels.transpose(1, 0, 2)[3:7])


def test_shrinking_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = read_image(save(tmp_path, Image.fromarray(stripes)), 8)
    assert small[2:-2, 2:-2].min() > 120 and small[2:-2, 2:-2].max() < 136


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_at_a_reduced_size_and_nearly_the_same(tmp_path, monkeypatch, mode):
    waves = 127 + 100 * np.sin(np.arange(640)[:, None] / 17) * np.cos(np.arange(480) / 23)
    image = Image.fromarray(waves.astype(np.uint8)).convert(mode)
    path, sizes = save(tmp_path, image, "large.jpg", quality=95), []
    monkeypatch.setattr(image_file, "to_mode", lambda image, mode: sizes.append(image.size) or to_mode(image, mode))
    found = read_image(path, 16).astype(int)
    monkeypatch.setattr(image_file, "DRAFT", 1000)
    assert np.abs(found - read_image(path, 16)).max() <= 2 and sizes == [(60, 80), (480, 640)]


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(read_image(save(tmp_path, Image.fromarray(grey)), 4), np.stack([grey] * 3, axis=-1))


def test_sixteen_bit_grey_keeps_its_upper_bits(tmp_path):
    deep = (np.arange(16, dtype=np.uint16) * 4000).reshape(4, 4)
    found = read_image(save(tmp_path, Image.fromarray(deep)), 4)
    np.testing.assert_array_equal(found, np.stack([deep // 256] * 3, axis=-1))


@pytest.mark.parametrize("name", ["image.webp", "image.bmp", "image.tif", "image.tiff"])
def test_other_types_are_read_exactly(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    lossless = {"lossless": True} if name.endswith("webp") else {}
    np.testing.assert_array_equal(read_image(save(tmp_path, Image.fromarray(pixels), name, **lossless), 6), pixels)


def test_palette_is_looked_up(tmp_path):
    image = Image.new("P", (2, 2))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putdata([0, 1, 1, 0])
    found = read_image(save(tmp_path, image), 2)
    np.testing.assert_array_equal(found, [[[0, 0, 0], [200, 100, 50]], [[200, 100, 50], [0, 0, 0]]])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path, mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    options = {}
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.putpixel((1, 0), 1)
        options = {"transparency": 1}
    wide = image.convert(mode).resize((2, 2), Image.Resampling.NEAREST)
    found = read_image(save(tmp_path, wide, **options), 2)
    np.testing.assert_array_equal(found, [[[0] * 3, [255] * 3]] * 2)


def test_camera_orientation_is_applied(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the image must be turned clockwise
    found = read_image(save(tmp_path, Image.fromarray(pixels), "turned.png", exif=exif), 8)
    np.testing.assert_array_equal(found, np.rot90(pixels, k=-1))


def test_cmyk_jpeg(tmp_path):
    path = save(tmp_path, Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "print.jpg")
    assert read_image(path, 8).min() >= 254


def test_undecodable_files_are_named(tmp_path, write_flat):
    whole = write_flat("whole.png", 9, (64, 64)).read_bytes()
    for name, content in {"empty.png": b"", "text.jpg": b"hello", "cut.png": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"cannot decode image .*{name}"):
            read_image(tmp_path / name, 4)


def deep_waves(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, : 2 * size] / size
    return (32768 + 32000 * np.sin(7 * x) * np.cos(5 * y)).astype(np.uint16)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bit_grey_is_read_exactly_and_written_as_it_came(tmp_path, name):
    deep = np.random.default_rng(0).integers(0, 65536, (6, 6), dtype=np.uint16)
    found = read_image(save(tmp_path, Image.fromarray(deep), name), 6, channels=1, bits=16)
    assert found.dtype == np.uint16 and np.array_equal(found[..., 0], deep)
    write_png(tmp_path / "out.png", found)
    assert np.array_equal(read_image(tmp_path / "out.png", 6, channels=1, bits=16), found)


def test_scaling_sixteen_bits_keeps_them_and_the_geometry_of_eight(tmp_path):
    deep = deep_waves(120)
    path = save(tmp_path, Image.fromarray(deep))
    found = read_image(path, 16, channels=1, bits=16).astype(int)
    assert np.abs(found // 256 - read_image(path, 16, channels=1)).max() <= 1
    # At its left and right end this crop has no neighbours to be filtered with.
    expected = Image.fromarray(deep[:, 60:180].astype(np.float32)).resize((16, 16), Image.Resampling.LANCZOS)
    assert np.abs(found[..., 0] - np.asarray(expected))[:, 3:-3].max() <= 1 and len(np.unique(found % 256)) > 50


def test_scaling_does_not_leave_the_grey_levels(tmp_path):
    edge = np.zeros((40, 40), np.uint16)
    edge[:, 20:] = 65535  # Lanczos overshoots on both sides
    found = read_image(save(tmp_path, Image.fromarray(edge)), 10, channels=1, bits=16)
    assert found[:, :4].max() < 8000 and found[:, 6:].min() > 57000


def test_a_grey_level_of_more_bits_than_asked_for_is_named(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[0, 4095], [1, 2]], np.uint16)))
    np.testing.assert_array_equal(read_image(path, 2, channels=1, bits=12)[..., 0], [[0, 4095], [1, 2]])
    with pytest.raises(ValueError, match="image.png: it has the grey level 4095, above those of 11 bits"):
        read_image(path, 2, channels=1, bits=11)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_transparency_is_kept_in_four_channels_alone(tmp_path, channels):
    pixels = np.full((2, 2, 4), 100, np.uint8)
    pixels[0, 0, 3] = 255
    found = read_image(save(tmp_path, Image.fromarray(pixels)), 2, channels)
    assert found.shape == (2, 2, channels) and found[0, 0, 0] == 100
    if channels == 4:
        np.testing.assert_array_equal(found, pixels)
    else:
        assert found[1, 1].tolist() == [194] * channels  # 100 * 0.39 + 255 * 0.61
    write_png(tmp_path / "out.png", found)
    assert np.array_equal(read_image(tmp_path / "out.png", 2, channels), found)


@pytest.mark.parametrize("channels, show, expected", [
    (1, (), [0]), (2, (), [0]), (3, (), [0, 1, 2]), (4, (), [0, 1, 2, 3]), (5, (), [0, 1, 2]), (5, (4, 2, 0), [4, 2, 0]), (5, (3,), [3])])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_shown_of_many_channels(channels, show, expected, dtype):
    images = np.arange(channels, dtype=dtype) * 3 + np.zeros((2, 4, 4, 1), dtype)
    deep = dtype == np.uint16
    found = shown(images << 8 if deep else images, 16 if deep else 8, show)
    assert found.dtype == (np.uint16 if deep and len(expected) == 1 else np.uint8)
    np.testing.assert_array_equal(found[0, 0, 0] >> (8 if found.dtype == np.uint16 else 0), np.array(expected) * 3)


@pytest.mark.parametrize("bits, channels, top", [(1, 1, 255), (5, 3, 248), (12, 1, 65520), (12, 3, 255), (16, 1, 65535)])
def test_few_bits_are_shown_over_the_whole_range_and_written_as_they_are(tmp_path, bits, channels, top):
    image = np.full((2, 2, channels), 2**bits - 1, np.uint8 if bits <= 8 else np.uint16)
    assert shown(image, bits).max() == top
    write_image(tmp_path / "image.png", image, bits)
    file = tmp_path / ("image.npy" if bits > 8 and channels > 1 else "image.png")
    whole = np.load(file) if file.suffix == ".npy" else read_image(file, 2, channels, bits)
    np.testing.assert_array_equal(whole, image)
