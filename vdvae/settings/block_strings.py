"""Block strings such as `32x11,32d2,4m1` and per-resolution widths, as the original's flags spell them."""

import re
from typing import NamedTuple

MOST = 10_000  # blocks
FORMS = "RES (one block), RESxCOUNT, RESdRATE (then pooling by RATE, encoder), RESmLOWER (mixes LOWER in, decoder)"


class EncoderBlockSpec(NamedTuple):
    """One encoder block at `resolution`; `down_rate` is the average pooling after it, None for no pooling."""

    resolution: int
    down_rate: int | None


class DecoderBlockSpec(NamedTuple):
    """One decoder block at `resolution`; `mixin` is the lower resolution added in first, None for none."""

    resolution: int
    mixin: int | None


def parse_encoder_blocks(text: str) -> list[EncoderBlockSpec]:
    """Parse e.g. `32x11,32d2,16` in order; raises ValueError that names the bad token."""
    return [EncoderBlockSpec(res, arg) for res, arg in _parse(text, "d", "enc_blocks")]


def parse_decoder_blocks(text: str) -> list[DecoderBlockSpec]:
    """Parse e.g. `1x1,4m1,4x2` in order; raises ValueError that names the bad token."""
    return [DecoderBlockSpec(res, arg) for res, arg in _parse(text, "m", "dec_blocks")]


def _parse(text: str, letter: str, flag: str) -> list[tuple[int, int | None]]:
    blocks = []
    for token in text.split(","):
        match = re.fullmatch(rf"([1-9]\d*)(?:([x{letter}])([1-9]\d*))?", token.strip())
        if not match:
            raise ValueError(f"{flag} {text!r}: {token!r} is not a block; allowed: {FORMS}")
        resolution, kind, number = int(match[1]), match[2], match[3]
        if len(blocks) + (int(number) if kind == "x" else 1) > MOST:
            raise ValueError(f"{flag}: with {token!r} there are more than {MOST} blocks")
        if kind == "x":
            blocks += [(resolution, None)] * int(number)
        else:
            blocks.append((resolution, int(number) if number else None))
    return blocks


class Widths:
    """Channel widths by resolution: `width`, overridden by `custom` such as `512:32,256:64`."""

    def __init__(self, width: int, custom: str = ""):
        self.width = width
        self.by_resolution = dict(_parse_width(item, custom) for item in custom.split(",") if custom)

    def __getitem__(self, resolution: int) -> int:
        return self.by_resolution.get(resolution, self.width)


def _parse_width(item: str, custom: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", item.strip())
    if not match:
        raise ValueError(f"custom_width_str {custom!r}: {item!r} is not RES:WIDTH (for example 512:32,256:64)")
    return int(match[1]), int(match[2])
