"""Mean and standard deviation of images, for data sets whose pixels nobody has measured before."""

import math

import numpy as np
from tqdm import tqdm

from vdvae.data.images import ImageSet

MOST_IMAGES = 256  # their mean is that of a large set within a few per cent of its standard deviation


def measured(images: ImageSet) -> tuple[float, float]:
    """Mean and standard deviation, in grey levels, of at most MOST_IMAGES images, evenly spaced; all channels together.

    The sums are whole numbers, so they are the same on every machine. Raises ValueError if all pixels are equal.
    """
    count = total = squares = 0
    chosen = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int)
    for index in tqdm(chosen, "measuring images", disable=None, leave=False, delay=2):
        pixels = images[int(index)].numpy().astype(np.uint64)
        count, total, squares = count + pixels.size, total + int(pixels.sum()), squares + int(np.square(pixels).sum())
    if squares * count == total * total:
        raise ValueError(f"every pixel of the training images is {total // count}: there is nothing to learn")
    return total / count, math.sqrt(squares * count - total * total) / count
