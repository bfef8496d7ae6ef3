"""Own images as .npy arrays: any channels, 8 or 16 bits, one file or one for each part; and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import skimage

from vdvae.data.own.standardise import measured
from vdvae.data.splits import load_splits


def numbered(n: int, shape: tuple = (4, 4, 5), dtype=np.uint16) -> np.ndarray:
    """Image i has the level 100 i + c in channel c."""
    array = np.zeros((n, *shape), dtype)
    array += (100 * np.arange(n)).astype(dtype).reshape(n, *[1] * len(shape))
    return array + (np.arange(shape[2]).astype(dtype) if len(shape) == 3 else dtype(0))


@pytest.mark.parametrize("shape, dtype", [((4, 4, 5), np.uint16), ((4, 4, 2), np.uint8), ((4, 4), np.uint16)])
def test_one_file_is_split_into_disjoint_parts_and_left_on_disk(tmp_path, shape, dtype):
    array = numbered(40, shape, dtype)
    np.save(tmp_path / "cells.npy", array)
    splits = load_splits("folder", str(tmp_path / "cells.npy"), 4, seed=3)
    assert [len(part) for part in splits] == [32, 4, 4]
    assert sorted(np.concatenate([part.indices for part in splits])) == list(range(40))
    for part in splits:
        assert part.is_mapped and part.bits == 8 * array.itemsize and part.image_shape == (4, 4, *shape[2:], 1)[:3]
        np.testing.assert_array_equal(part.__getitems__([0, 3])[..., 0], array.reshape(40, 4, 4, -1)[part.indices[[0, 3]], ..., 0])
    again = load_splits("folder", str(tmp_path / "cells.npy"), 4, known={part: images.files for part, images in splits._asdict().items()})
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(splits, again))
    assert splits.train.notes == [f"images: train 32, valid 4, test 4, from {np.dtype(dtype)} {[40, *shape, 1][:4]}"]


def test_a_file_for_each_part(tmp_path):
    for part, n in (("train", 7), ("valid", 2)):
        np.save(tmp_path / f"{part}.npy", numbered(n))
    splits = load_splits("folder", str(tmp_path), 4)
    assert [len(part) for part in splits] == [7, 2, 2] and splits.train[6][0, 0].tolist() == [600, 601, 602, 603, 604]
    np.save(tmp_path / "test.npy", numbered(3))
    assert [len(part) for part in load_splits("folder", str(tmp_path), 4)] == [7, 2, 3]
    np.save(tmp_path / "test.npy", numbered(3)[..., :4])
    with pytest.raises(ValueError, match=r"test.npy is uint16 \[3, 4, 4, 4\], unlike train.npy, uint16 \[7, 4, 4, 5\]"):
        load_splits("folder", str(tmp_path), 4)
    (tmp_path / "valid.npy").unlink()
    with pytest.raises(ValueError, match="has train.npy and test.npy: give both train.npy and valid.npy"):
        load_splits("folder", str(tmp_path), 4)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    path = tmp_path / "cells.npy"
    np.save(path, numbered(40))
    known = {part: images.files for part, images in load_splits("folder", str(path), 4)._asdict().items()}
    np.save(path, numbered(40) + np.uint16(1))
    with pytest.raises(ValueError, match="cells.npy holds other arrays than this run was saved with.*--restore_path"):
        load_splits("folder", str(path), 4, known=known)
    with pytest.raises(ValueError, match="other arrays"):
        load_splits("folder", str(path), 4, known={})


NAN = np.array([-1.5, np.nan] * 24, np.float32).reshape(3, 4, 4)


@pytest.mark.parametrize("array, words", [
    (NAN, r"found float32 \[3, 4, 4\], the first from nan to nan"),
    (numbered(3, dtype=np.float64), r"found float64 \[3, 4, 4, 5\], the first from 0.0 to 4.0"),
    (numbered(3).astype(np.int16) - 9, r"found int16 \[3, 4, 4, 5\], the first from -9 to -5"),
    (numbered(3).astype(">u2"), r"found >u2 \[3, 4, 4, 5\]"),
    (np.zeros((3, 16), np.uint8), r"found uint8 \[3, 16\]"),
    (np.asfortranarray(numbered(3)), "in C order, found"),
    (np.zeros((3, 4, 6), np.uint8), r"is uint8 \[3, 4, 6\]: its images must be \[4, 4, 1\]"),
    (np.zeros((3, 8, 8), np.uint8), r"its images must be \[4, 4, 1\]"),
    (numbered(2), "at least 3 images .* found 2"),
])
def test_what_is_no_array_of_images_is_refused_with_file_and_value(tmp_path, array, words):
    np.save(tmp_path / "cells.npy", array)
    with pytest.raises(ValueError, match=f"cells.npy .*{words}") as error:
        load_splits("folder", str(tmp_path / "cells.npy"), 4)
    assert "\n" not in str(error.value)


def test_other_channels_or_bits_than_asked_for_are_refused(tmp_path):
    np.save(tmp_path / "cells.npy", numbered(40))
    for asked, words in (({"channels": 3}, r"its images must be \[4, 4, 3\]"), ({"bits": 8}, "its bits must be 9 to 16, not 8"),
                         ({"bits": 11}, "has the grey level 3904, above those of 11 bits")):
        with pytest.raises(ValueError, match=words):
            load_splits("folder", str(tmp_path / "cells.npy"), 4, **asked)
    assert load_splits("folder", str(tmp_path / "cells.npy"), 4, channels=5, bits=12).train.bits == 12


def test_faces_of_scikit_image_are_refused_as_fractions_and_read_in_sixteen_bits(tmp_path):
    faces = np.load(Path(skimage.__file__).parent / "data/lfw_subset.npy")
    with pytest.raises(ValueError, match=r"lfw_subset.npy must hold uint8 or uint16 .*, found float64 \[200, 25, 25\], the first from"):
        load_splits("folder", str(Path(skimage.__file__).parent / "data/lfw_subset.npy"), 25)
    np.save(tmp_path / "faces.npy", (faces * 65535).round().astype(np.uint16))
    splits = load_splits("folder", str(tmp_path / "faces.npy"), 25)
    assert [len(part) for part in splits] == [160, 20, 20] and (splits.train.image_shape, splits.train.bits) == ((25, 25, 1), 16)
    mean, std = measured(splits.train)
    assert abs(mean / 65535 - faces.mean()) < 0.02 and abs(std / 65535 - faces.std()) < 0.02


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="cells.npy"):
        load_splits("folder", str(tmp_path / "cells.npy"), 4)


@pytest.mark.parametrize("dtype, top", [(np.uint8, 256), (np.uint16, 65536)])
def test_mean_and_deviation_are_those_of_the_pixels(tmp_path, dtype, top):
    array = np.random.default_rng(0).integers(0, top, (60, 4, 4, 2)).astype(dtype)
    np.save(tmp_path / "cells.npy", array)
    train = load_splits("folder", str(tmp_path / "cells.npy"), 4).train
    pixels = array[train.indices].astype(np.float64)
    np.testing.assert_allclose(measured(train), [pixels.mean(), pixels.std()], rtol=1e-12)


def test_a_large_set_is_measured_on_some_of_its_images_and_equal_pixels_are_refused(tmp_path):
    np.save(tmp_path / "cells.npy", numbered(600, (1, 1)))
    train = load_splits("folder", str(tmp_path / "cells.npy"), 1).train
    mean, std = measured(train)
    pixels = train.array[train.indices].astype(np.float64)
    assert abs(mean - pixels.mean()) < 0.01 * pixels.std() and abs(std / pixels.std() - 1) < 0.01
    np.save(tmp_path / "flat.npy", np.full((9, 4, 4), 7, np.uint8))
    with pytest.raises(ValueError, match="every pixel of the training images is 7"):
        measured(load_splits("folder", str(tmp_path / "flat.npy"), 4).train)
