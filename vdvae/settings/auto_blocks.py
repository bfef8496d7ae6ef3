"""Block strings for square images of any size, after the pattern of the published sets."""

from itertools import pairwise

FACTORS = (2, 3, 5, 7)
ENCODER_SHARE = 0.75  # encoder blocks for each decoder block; the published sets have 0.6 to 1


def auto_encoder_blocks(image_size: int, blocks: int) -> str:
    """The encoder that goes with `blocks` decoder blocks: three quarters as many, as the square roots of the decoder's shares.

    Raises ValueError as `auto_resolutions` does.
    """
    sizes = auto_resolutions(image_size)
    counts = _spread(int(ENCODER_SHARE * blocks), [_share(size) ** 0.5 for size in sizes])
    tokens = []
    for count, (size, lower) in zip(counts, pairwise(sizes)):
        tokens += [f"{size}x{count - 1}"] * (count > 1) + [f"{size}d{size // lower}"]
    return ",".join([*tokens, f"1x{counts[-1]}"])


def auto_decoder_blocks(image_size: int, blocks: int) -> str:
    """A decoder of `blocks` blocks: in proportion to the resolution up to 32, to 1024 / resolution above, one at least.

    Raises ValueError as `auto_resolutions` does, and for fewer blocks than resolutions.
    """
    sizes = auto_resolutions(image_size)[::-1]
    if blocks < len(sizes):
        raise ValueError(f"blocks is {blocks}, it must be at least {len(sizes)}: one at each of {', '.join(map(str, sizes))}")
    counts = _spread(blocks, [_share(size) for size in sizes])
    tokens = [f"1x{counts[0]}"]
    for count, (lower, size) in zip(counts[1:], pairwise(sizes)):
        tokens += [f"{size}m{lower}"] + [f"{size}x{count - 1}"] * (count > 1)
    return ",".join(tokens)


def auto_resolutions(image_size: int) -> list[int]:
    """From the image's size to 1, such as 32, 16, 8, 4, 1 and 28, 14, 7, 1.

    A size up to 7 goes to 1 at once; a larger one is divided by its smallest prime factor. Raises ValueError, with the
    nearest sizes that can be, for one that has a prime factor above 7.
    """
    if not _is_smooth(image_size):
        below, above = (next(filter(_is_smooth, sizes)) for sizes in (range(image_size, 0, -1), range(image_size, 2 * image_size)))
        raise ValueError(f"image_size is {image_size}, which has a prime factor above 7, so auto finds no blocks: the nearest "
                         f"sizes are {below} and {above}")
    sizes = [image_size]
    while sizes[-1] > 1:
        sizes.append(1 if sizes[-1] <= max(FACTORS) else sizes[-1] // next(f for f in FACTORS if sizes[-1] % f == 0))
    return sizes


def _is_smooth(size: int) -> bool:
    for factor in FACTORS:
        while size % factor == 0:
            size //= factor
    return size == 1


def _share(size: int) -> float:
    return min(size, 1024 / size)


def _spread(total: int, shares: list[float]) -> list[int]:
    """One for each share, and those that are left to the share that has the fewest for its size."""
    counts = [1] * len(shares)
    for _ in range(total - len(counts)):
        fewest = min(range(len(counts)), key=lambda index: counts[index] / shares[index])
        counts[fewest] += 1
    return counts
