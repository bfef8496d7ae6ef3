"""ImageNet and FFHQ at 256x256: their splits and their memory-mapped files."""

import numpy as np
import pytest

from vdvae.data.files import split_last
from vdvae.data.splits import load_splits


@pytest.fixture
def data_root(tmp_path, write_zeros):
    """5,100 training images and 7 for testing, each filled with its number modulo 251."""
    for part, n in (("train", 5_100), ("valid", 7)):
        write_zeros(tmp_path / f"imagenet32-{part}.npy", (n, 32, 32, 3))[:] = (np.arange(n) % 251)[:, None, None, None]
    return tmp_path


def test_split_is_the_published_one(golden_splits):
    golden = golden_splits["imagenet_split"]
    train, valid = split_last(range(golden["n"]), "imagenet32-train.npy", seed=42, n_valid=5_000)
    assert (len(train), len(valid)) == (1_276_149, 5_000) and train.dtype == np.int64
    assert list(train[:8]) == golden["first_train"] and list(valid[:8]) == golden["first_valid"]
    assert len(np.unique(np.concatenate([train, valid]))) == golden["n"]


def test_images_come_from_the_right_file_in_split_order(data_root):
    splits = load_splits("imagenet32", str(data_root), 32)
    order = np.random.RandomState(42).permutation(5_100)
    assert [len(part) for part in splits] == [100, 5_000, 7]
    assert [int(image[0, 0, 0]) for image in splits.train] == list(order[:100] % 251)
    assert [int(splits.valid[i][31, 31, 2]) for i in range(9)] == list(order[100:109] % 251)
    assert [int(image[0, 0, 0]) for image in splits.test] == list(range(7))


def test_files_stay_on_disk(data_root):
    splits = load_splits("imagenet32", str(data_root), 32)
    assert all(isinstance(part.array, np.memmap) and part.array.mode == "r" for part in splits)
    assert splits.train.array is splits.valid.array
    assert splits.train.indices.dtype == np.int64


def test_imagenet64_reads_its_own_files(tmp_path, write_zeros):
    write_zeros(tmp_path / "imagenet64-train.npy", (5_001, 64, 64, 3))
    write_zeros(tmp_path / "imagenet64-valid.npy", (3, 64, 64, 3))
    splits = load_splits("imagenet64", str(tmp_path), 64)
    assert [len(part) for part in splits] == [1, 5_000, 3] and splits.test.image_shape == (64, 64, 3)


def test_truncated_file(data_root):
    path = data_root / "imagenet32-train.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="imagenet32-train.npy is truncated"):
        load_splits("imagenet32", str(data_root), 32)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array, but long enough to be one" * 9])
def test_no_array(data_root, content):
    (data_root / "imagenet32-valid.npy").write_bytes(content)
    with pytest.raises(ValueError, match="imagenet32-valid.npy is truncated or not a .npy file"):
        load_splits("imagenet32", str(data_root), 32)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((7, 32, 32, 3), np.float32), r"found float32 \[7, 32, 32, 3\]"),
        (np.zeros((7, 3, 32, 32), np.uint8), r"found uint8 \[7, 3, 32, 32\]"),
        (np.zeros((7, 3072), np.uint8), r"found uint8 \[7, 3072\]"),
    ],
)
def test_wrong_dtype_or_shape(data_root, array, found):
    np.save(data_root / "imagenet32-valid.npy", array)
    with pytest.raises(ValueError, match=rf"imagenet32-valid.npy must hold uint8 \[N, 32, 32, 3\], {found}"):
        load_splits("imagenet32", str(data_root), 32)


def test_too_few_images_to_split(data_root, write_zeros):
    write_zeros(data_root / "imagenet32-train.npy", (5_000, 32, 32, 3))
    with pytest.raises(ValueError, match="imagenet32-train.npy must hold more than the 5000 .* found 5000"):
        load_splits("imagenet32", str(data_root), 32)


def test_ffhq_256_split_is_the_published_one(golden_splits):
    golden = golden_splits["ffhq256_split"]
    train, valid = split_last(range(golden["n"]), "ffhq-256.npy", seed=5, n_valid=7_000)
    assert (len(train), len(valid)) == (63_000, 7_000)
    assert list(train[:8]) == golden["first_train"] and list(valid[:8]) == golden["first_valid"]


def test_ffhq_256_reads_a_memory_map_in_split_order(tmp_path, write_zeros):
    array = write_zeros(tmp_path / "ffhq-256.npy", (7_004, 256, 256, 3))
    order = np.random.RandomState(5).permutation(7_004)
    array[order[:4], 0, 0, 0] = [1, 2, 3, 4]
    array[order[4], 0, 0, 0] = 5
    splits = load_splits("ffhq_256", str(tmp_path), 256)
    assert [len(part) for part in splits] == [4, 7_000, 7_000] and splits.valid is splits.test
    assert isinstance(splits.train.array, np.memmap)
    assert splits.train.__getitems__([0, 1, 2, 3])[:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert splits.valid[0][0, 0, 0] == 5
