"""Folders of image files: which files, which split, and how each kind of file becomes RGB."""

import numpy as np
import pytest
from PIL import Image

from vdvae.data.image_file import read_image
from vdvae.data.folder import TRIES, PartOfFolder, load_folder
from vdvae.data.splits import load_splits


def names(part) -> list[str]:
    return [path.name for path in part.paths]


def test_no_images(tmp_path):
    (tmp_path / "image.gif").write_bytes(b"GIF89a")
    with pytest.raises(FileNotFoundError, match=rf"no images below {tmp_path}: .*\.png, \.jpg, \.jpeg"):
        load_splits("folder", str(tmp_path), 8)


def test_split_is_disjoint_complete_and_repeatable(tmp_path, write_flat):
    for i in range(25):
        write_flat(f"{i:02}.png", i)
    splits = load_splits("folder", str(tmp_path), 4, seed=1)
    assert [len(part) for part in splits] == [18, 3, 4] and splits.train.notes == ["images: train 18, valid 3, test 4"]
    assert sorted(sum((names(part) for part in splits), [])) == [f"{i:02}.png" for i in range(25)]
    assert list(map(names, load_splits("folder", str(tmp_path), 4, seed=2))) == list(map(names, splits))
    assert [int(image[0, 0, 0]) for image in splits.train] == [int(name[:2]) for name in names(splits.train)]


def test_three_images_are_enough_and_two_are_not(tmp_path, write_flat):
    write_flat("a.png", 1), write_flat("b.png", 2)
    with pytest.raises(ValueError, match="at least 3 images .* found 2"):
        load_splits("folder", str(tmp_path), 4)
    write_flat("c.png", 3)
    splits = load_splits("folder", str(tmp_path), 4)
    assert [len(part) for part in splits] == [1, 1, 1]
    assert sum("so few images that none would be in the" in note for note in splits.train.notes) == 2


def test_subfolders_are_the_splits(tmp_path, write_flat):
    write_flat("train/a.png", 1), write_flat("valid/b.png", 2), write_flat("elsewhere/c.png", 3)
    assert list(map(names, load_splits("folder", str(tmp_path), 4))) == [["a.png"], ["b.png"], ["b.png"]]
    write_flat("test/d.png", 4)
    assert list(map(names, load_splits("folder", str(tmp_path), 4))) == [["a.png"], ["b.png"], ["d.png"]]


def test_train_without_valid_is_refused_rather_than_mixed(tmp_path, write_flat):
    for i in range(5):
        write_flat(f"train/{i}.png", i), write_flat(f"test/{i}.png", i)
    with pytest.raises(ValueError, match="subfolder train/ alone: give both"):
        load_splits("folder", str(tmp_path), 4)


def test_batch_of_decoded_images(tmp_path, write_flat):
    for i in range(3):
        write_flat(f"train/{i}.png", 10 * i, (7, 9)), write_flat(f"valid/{i}.png", i)
    train = load_splits("folder", str(tmp_path), 5).train
    assert train.decodes is True and train.image_shape == (5, 5, 3)
    batch = train.__getitems__([2, 0])
    assert batch.shape == (2, 5, 5, 3) and batch[:, 2, 2, 1].tolist() == [20, 0]


def test_the_next_image_takes_the_place_of_a_broken_one_which_is_named_once(tmp_path, write_flat, capsys):
    for i in range(3):
        write_flat(f"{i}.png", 10 * i)
    part = PartOfFolder(tmp_path, {f"{i}.png": "" for i in range(3)}, 4, [])
    (tmp_path / "2.png").write_bytes(b"broken")
    assert [part[2][0, 0, 0], *part.__getitems__([1, 2])[:, 0, 0, 0]] == [0, 10, 0] and len(part) == 3
    assert capsys.readouterr().err.count("cannot decode image") == 1
    assert list(part.broken) == [str(tmp_path / "2.png")] and "not an image" not in part.broken
    with pytest.raises(IndexError):
        part[3]


def test_many_broken_images_in_a_row_are_an_error(tmp_path):
    part = PartOfFolder(tmp_path, {f"{i}.png": "" for i in range(1000)}, 4, [])
    with pytest.raises(ValueError, match=f"{TRIES} images in a row cannot be read, up to .*/4.png"):
        part[995]


def test_a_run_from_before_the_split_by_name_does_not_go_on(tmp_path, write_flat):
    for i in range(10):
        write_flat(f"mixed/{i}.png", i), write_flat(f"apart/train/{i}.png", i), write_flat(f"apart/valid/{i}.png", 10 + i)
    with pytest.raises(ValueError, match="held-out images are not known any more: begin a new run .* --restore_path"):
        load_folder(tmp_path / "mixed", 4, known={})
    assert len(load_folder(tmp_path / "apart", 4, known={}).train) == 10


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


def test_ffhq_1024_reads_folders_at_any_depth(tmp_path, write_flat):
    write_flat("ffhq1024/train/00000/00001.png", 20, (1024, 1024))
    write_flat("ffhq1024/train/00000/00000.png", 10, (1024, 1024))
    write_flat("ffhq1024/valid/60000.png", 30, (1024, 1024))
    splits = load_splits("ffhq_1024", str(tmp_path), 1024)
    assert [len(part) for part in splits] == [2, 1, 1] and splits.valid is splits.test
    assert splits.train.image_shape == (1024, 1024, 3) and splits.train.decodes is True
    assert splits.train.__getitems__([0, 1])[:, 5, 5, 0].tolist() == [10, 20]
    assert splits.valid[0].unique().tolist() == [30]


def test_ffhq_1024_names_the_missing_folder_and_its_script(tmp_path, write_flat):
    write_flat("ffhq1024/train/00000.png", 1)
    with pytest.raises(FileNotFoundError, match=r"ffhq1024/valid is missing.*run_scripts/setup_ffhq1024\.sh"):
        load_splits("ffhq_1024", str(tmp_path), 1024)
