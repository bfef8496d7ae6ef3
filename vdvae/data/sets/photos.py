"""32x32 crops of photographs that ship inside scikit-learn and scikit-image: data without a download.

Seven colour photographs are cut into tiles of 96x96; each tile belongs to one split and each crop lies inside one tile,
so no pixel is seen in two splits. Crops are taken at full size and from the tile halved by averaging 2x2 pixels.
"""

import numpy as np

from vdvae.data.images import ArrayImages, Splits

TILE = 96
CROP = 32
FULL_STRIDE, HALF_STRIDE = 16, 8
HELD_OUT_PERCENT = 10
SEED = 96


def load_photos32() -> Splits:
    """Crops [N, 32, 32, 3]: 4692 train, 510 valid, 510 test, the same in each call, in shuffled order."""
    return Splits(*(ArrayImages(crops) for crops in split_crops(photographs())))


def load_photos32_ten(seed: int) -> Splits:
    """Ten training crops drawn with `seed`; train, valid and test are these same ten (the paper's section 7.1).

    Raises ValueError for a negative seed.
    """
    train, _, _ = split_crops(photographs())
    ten = np.random.default_rng(seed).choice(len(train), size=10, replace=False)
    images = ArrayImages(train[ten])
    return Splits(images, images, images)


def photographs() -> list[np.ndarray]:
    """The seven photographs, uint8 [H, W, 3] each, read from the installed packages."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    bundled = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    return bundled + [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.stereo_motorcycle()[0]]


def split_crops(photos: list[np.ndarray]) -> list[np.ndarray]:
    """Shuffled train, valid and test crops [N, 32, 32, C] of `photos`, each [H, W, C], H and W >= 96, dtype kept."""
    generator = np.random.RandomState(SEED)
    parts = zip(*(split_tiles(photo, generator) for photo in photos))
    return [generator.permutation(tile_crops(np.concatenate(tiles))) for tiles in parts]


def split_tiles(photo: np.ndarray, generator: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train, valid and test tiles [T, 96, 96, C] of one photograph; a tenth, rounded, is valid, another test."""
    tiles = cut(photo, size=TILE, stride=TILE)
    held_out = round(len(tiles) * HELD_OUT_PERCENT / 100)
    valid, test, train = np.split(generator.permutation(len(tiles)), [held_out, 2 * held_out])
    return tiles[train], tiles[valid], tiles[test]


def tile_crops(tiles: np.ndarray) -> np.ndarray:
    """Crops [N, 32, 32, C] of tiles [T, 96, 96, C]: 25 at full size and 9 at half size from each."""
    full = [cut(tile, size=CROP, stride=FULL_STRIDE) for tile in tiles]
    half = [cut(halve(tile), size=CROP, stride=HALF_STRIDE) for tile in tiles]
    return np.concatenate(full + half)


def cut(image: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Windows [N, size, size, C] of an image [H, W, C], `stride` apart, row by row; what is left over is dropped."""
    height, width, _ = image.shape
    corners = [(y, x) for y in range(0, height - size + 1, stride) for x in range(0, width - size + 1, stride)]
    return np.stack([image[y : y + size, x : x + size] for y, x in corners])


def halve(image: np.ndarray) -> np.ndarray:
    """Mean of each 2x2 pixels of an integer image [H, W, C] with even H, W, rounded half up, in the image's dtype."""
    quads = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, -1).sum(axis=(1, 3), dtype=np.int64)
    return ((quads + 2) // 4).astype(image.dtype)
