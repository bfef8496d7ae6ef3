"""The bundled photographs: which crops there are, that splits share no pixel, and the constants measured on them."""

import hashlib

import numpy as np
import pytest

from vdvae.data.sets.photos import halve, photographs, split_crops
from vdvae.data.spec import DATASETS
from vdvae.data.splits import load_splits

SHA256 = [
    "4c3d4ce102ea5ad6afbaf3d68f8a62d2f6770b5224178d193bbb1c63db187ba5",
    "82e687755580973bf912e659c44a80b9eeb5c99ea27223472c50b741b0f98a23",
    "32a844a0785b7436bfe535562b236cb69a4c3b66e1b63c30f9e6e3d3ce01f5aa",
]


@pytest.fixture(scope="module")
def photos():
    return photographs()


@pytest.fixture(scope="module")
def splits():
    return load_splits("photos32", ".", 32)


def test_splits_are_the_same_everywhere(splits):
    assert [len(part) for part in splits] == [4692, 510, 510]
    assert [hashlib.sha256(part.array.tobytes()).hexdigest() for part in splits] == SHA256


def tiles_of(crops: np.ndarray) -> set[int]:
    """The tiles that coordinate crops come from: 10000 * photograph + 100 * row of tiles + column of tiles."""
    return set((crops // [1, 96, 96] @ [10_000, 100, 1]).flatten().tolist())


def test_no_pixel_is_in_two_splits(photos):
    """Crops of images whose pixels hold (photograph, y, x); halving keeps y and x inside their tile."""
    shapes = [photo.shape[:2] for photo in photos]
    coordinates = [np.stack([np.full(s, k), *np.indices(s)], axis=-1) for k, s in enumerate(shapes)]
    train, valid, test = (tiles_of(crops) for crops in split_crops(coordinates))
    assert not (train & valid or train & test or valid & test)
    assert len(train | valid | test) == sum((height // 96) * (width // 96) for height, width in shapes)
    assert all({tile // 10_000 for tile in part} == set(range(7)) for part in (train, valid, test))


def test_crops_are_at_both_scales(photos):
    """On images whose pixel is its x, neighbours differ by 1 at full size and by 2 at half size: 25 crops to 9."""
    ramps = [np.broadcast_to(np.arange(p.shape[1])[None, :, None], (*p.shape[:2], 1)) for p in photos]
    for crops in split_crops(ramps):
        steps = np.diff(crops, axis=2).reshape(len(crops), -1)
        assert set(np.unique(steps)) == {1, 2} and np.all(steps == steps[:, :1])
        assert np.mean(steps[:, 0] == 1) == 25 / 34


def test_the_first_images_are_varied(photos):
    labels = [np.full_like(photo, k) for k, photo in enumerate(photos)]
    for crops in split_crops(labels):
        assert len(np.unique(crops[:8])) >= 3


def test_halving_averages_and_rounds_half_up():
    image = np.array([[0, 1, 255, 255], [0, 1, 255, 254], [1, 0, 9, 9], [0, 0, 9, 10]], np.uint8)[..., None]
    np.testing.assert_array_equal(halve(image)[..., 0], [[1, 255], [0, 9]])
    assert halve(image).dtype == np.uint8


@pytest.mark.parametrize("name", ["photos32", "photos32_ten"])
def test_constants_are_the_mean_and_deviation_of_the_training_crops(splits, name):
    pixels = splits.train.array.astype(np.float64)
    assert -DATASETS[name].shift == pytest.approx(pixels.mean(), abs=5e-6)
    assert 1 / DATASETS[name].scale == pytest.approx(pixels.std(), abs=5e-6)


def test_ten_crops_are_drawn_with_the_seed(splits):
    first, again, other = (load_splits("photos32_ten", ".", 32, seed=seed) for seed in (3, 3, 4))
    assert len(first.train) == 10 and first.train is first.valid is first.test
    np.testing.assert_array_equal(first.train.array, again.train.array)
    assert not np.array_equal(first.train.array, other.train.array)
    crops = {crop.tobytes() for crop in splits.train.array}
    assert len({image.tobytes() for image in first.train.array} & crops) == 10


def test_negative_seed():
    with pytest.raises(ValueError, match="non-negative"):
        load_splits("photos32_ten", ".", 32, seed=-1)
