"""Conversion of downloaded files to .npy: right pixels, complete or absent, and clear refusals."""

import numpy as np
import pytest

from tests.vdvae.disks import small_disk
from vdvae.data import convert


@pytest.fixture
def batches(tmp_path):
    """Eleven training batches of 1..11 images and a validation batch of 5, of 4x4 pixels, channels first."""
    generator = np.random.default_rng(0)
    source = tmp_path / "npz"
    source.mkdir()
    images = {f"train_data_batch_{k}": generator.integers(0, 256, (k, 3, 4, 4), np.uint8) for k in range(1, 12)}
    images["val_data"] = generator.integers(0, 256, (5, 3, 4, 4), np.uint8)
    for name, pixels in images.items():
        np.savez(source / f"{name}.npz", data=pixels.reshape(len(pixels), -1), labels=np.arange(len(pixels)))
    return source, [pixels.transpose(0, 2, 3, 1) for pixels in images.values()]


def test_imagenet_batches_in_order_of_their_numbers(tmp_path, batches, monkeypatch):
    monkeypatch.setattr(convert, "ROWS", 3)
    source, images = batches
    convert.main(["imagenet", str(source), str(tmp_path / "out"), "--image_size", "4"])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "imagenet4-train.npy"), np.concatenate(images[:-1]))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "imagenet4-valid.npy"), images[-1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["imagenet4-train.npy", "imagenet4-valid.npy"]


def test_compressed_batches(tmp_path, batches):
    source, images = batches
    pixels = images[-1].transpose(0, 3, 1, 2).reshape(5, -1)
    np.savez_compressed(source / "val_data.npz", data=pixels)
    convert.convert_imagenet(source, tmp_path, 4)
    np.testing.assert_array_equal(np.load(tmp_path / "imagenet4-valid.npy"), images[-1])


@pytest.mark.parametrize("missing", ["train_data_batch_1.npz", "train_data_batch_7.npz", "val_data.npz"])
def test_a_missing_batch_is_named_and_nothing_is_written(tmp_path, batches, missing):
    (batches[0] / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        convert.convert_imagenet(batches[0], tmp_path / "out", 4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"data": np.zeros((2, 12), np.uint8)}, r"found uint8 \[2, 12\]"),
        ({"data": np.zeros((2, 48))}, r"found float64 \[2, 48\]"),
        ({"data": np.zeros((2, 48), np.uint8, order="F")}, "in Fortran order"),
        ({"images": np.zeros((2, 48), np.uint8)}, "data.npy"),
    ],
)
def test_a_malformed_batch_is_named_and_nothing_is_written(tmp_path, batches, arrays, problem):
    np.savez(batches[0] / "train_data_batch_3.npz", **arrays)
    with pytest.raises(ValueError, match=f"train_data_batch_3.npz is not a batch of 4x4 images: .*{problem}"):
        convert.convert_imagenet(batches[0], tmp_path / "out", 4)
    assert not (tmp_path / "out").exists()


def test_a_truncated_batch(tmp_path, batches):
    path = batches[0] / "train_data_batch_3.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="train_data_batch_3.npz is not a batch"):
        convert.convert_imagenet(batches[0], tmp_path / "out", 4)


def test_pixels_that_fail_their_checksum_leave_the_old_file(tmp_path, batches):
    path, old = batches[0] / "train_data_batch_9.npz", tmp_path / "imagenet4-train.npy"
    old.write_text("old")
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="train_data_batch_9.npz is not a batch .*CRC"):
        convert.convert_imagenet(batches[0], tmp_path, 4)
    assert old.read_text() == "old" and not list(tmp_path.glob("*.partial"))


def test_folder_of_images_sorted_by_path(tmp_path, write_flat):
    for name, level in {"b/1.png": 30, "a/2.png": 20, "a/1.png": 10}.items():
        write_flat(name, level, (6, 4))
    convert.main(["folder", str(tmp_path), str(tmp_path / "new" / "out.npy"), "--image_size", "4"])
    array = np.load(tmp_path / "new" / "out.npy")
    assert array.shape == (3, 4, 4, 3) and array.dtype == np.uint8
    assert array[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_a_bad_image_leaves_nothing_behind(tmp_path, write_flat):
    write_flat("in/a.png", 1)
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="b.png"):
        convert.convert_folder(tmp_path / "in", tmp_path / "out.npy", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_pieces_that_do_not_add_up(tmp_path):
    with pytest.raises(ValueError, match="out.npy should get 3 images, got 2"):
        convert.write_npy(tmp_path / "out.npy", 3, 4, [np.zeros((2, 4, 4, 3), np.uint8)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folders", ["", "new/folder"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, batches, capsys, folders):
    before = set(tmp_path.iterdir())
    with small_disk():  # the eleven batches need 3168 bytes
        assert convert.main(["imagenet", str(batches[0]), str(tmp_path / folders), "--image_size", "4"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("convert: ") and "File too large" in message and message.count("\n") == 1
    assert set(tmp_path.iterdir()) == before
