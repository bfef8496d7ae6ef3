"""FFHQ's two sizes."""

import numpy as np
import pytest

from vdvae.data.files import split_last
from vdvae.data.splits import load_splits


def test_256_split_is_the_published_one(golden_splits):
    golden = golden_splits["ffhq256_split"]
    train, valid = split_last(range(golden["n"]), "ffhq-256.npy", seed=5, n_valid=7_000)
    assert (len(train), len(valid)) == (63_000, 7_000)
    assert list(train[:8]) == golden["first_train"] and list(valid[:8]) == golden["first_valid"]


def test_256_reads_a_memory_map_in_split_order(tmp_path, write_zeros):
    array = write_zeros(tmp_path / "ffhq-256.npy", (7_004, 256, 256, 3))
    order = np.random.RandomState(5).permutation(7_004)
    array[order[:4], 0, 0, 0] = [1, 2, 3, 4]
    array[order[4], 0, 0, 0] = 5
    splits = load_splits("ffhq_256", str(tmp_path), 256)
    assert [len(part) for part in splits] == [4, 7_000, 7_000] and splits.valid is splits.test
    assert isinstance(splits.train.array, np.memmap)
    assert splits.train.__getitems__([0, 1, 2, 3])[:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert splits.valid[0][0, 0, 0] == 5


def test_1024_reads_folders_at_any_depth(tmp_path, write_flat):
    write_flat("ffhq1024/train/00000/00001.png", 20, (1024, 1024))
    write_flat("ffhq1024/train/00000/00000.png", 10, (1024, 1024))
    write_flat("ffhq1024/valid/60000.png", 30, (1024, 1024))
    splits = load_splits("ffhq_1024", str(tmp_path), 1024)
    assert [len(part) for part in splits] == [2, 1, 1] and splits.valid is splits.test
    assert splits.train.image_shape == (1024, 1024, 3) and splits.train.decodes is True
    assert splits.train.__getitems__([0, 1])[:, 5, 5, 0].tolist() == [10, 20]
    assert splits.valid[0].unique().tolist() == [30]


def test_1024_names_the_missing_folder_and_its_script(tmp_path, write_flat):
    write_flat("ffhq1024/train/00000.png", 1)
    with pytest.raises(FileNotFoundError, match=r"ffhq1024/valid is missing.*run_scripts/setup_ffhq1024\.sh"):
        load_splits("ffhq_1024", str(tmp_path), 1024)
