"""Channels and bits of a folder's images: those that all files have, or those that --channels and --bits ask for."""

from collections import defaultdict

from vdvae.data.image_file import MODES, FileFormat
from vdvae.data.own.listing import first_names


def common_format(files: dict[str, FileFormat], channels: int | None, bits: int | None) -> tuple[int, int, list[str]]:
    """(channels, bits) in which all files are read, and lines for the log on the files that this changes.

    `channels` and `bits` are what the user asks for; None: what all files have, transparency left aside. Raises ValueError
    that names files if they differ, and for what cannot be read from image files.
    """
    if channels not in (None, *MODES) or (bits or 8) < 8:
        raise ValueError(f"channels is {channels} and bits is {bits}: image files are read with 1, 3 or 4 channels and 8 to 16 "
                         "bits; any other images must be a .npy array")
    channels = channels or _agreed({name: file.colours for name, file in files.items()}, "channels", "--channels 3 or 1 converts all")
    bits = bits or _agreed({name: file.bits for name, file in files.items()}, "bits", "--bits 8 converts all")
    if bits > 8:
        _check_deep(files, channels, bits)
    return channels, bits, _changes(files, channels, bits)


def _agreed(values: dict[str, int], what: str, way_out: str) -> int:
    """The value that all files have; ValueError names those that differ from most."""
    names = defaultdict(list)
    for name, value in values.items():
        names[value].append(name)
    most, *others = sorted(names, key=lambda value: -len(names[value]))
    if others:
        rest = "; ".join(f"{len(names[value])} have {value}: {first_names(names[value])}" for value in others)
        raise ValueError(f"the images differ in {what}: {len(names[most])} have {most}; {rest}; {way_out}")
    return most


def _check_deep(files: dict[str, FileFormat], channels: int, bits: int) -> None:
    """Raise ValueError for more than 8 bits of anything but grey files of 16: of colour, Pillow gives the upper 8."""
    others = [name for name, file in files.items() if file != (1, 16)]
    if channels > 1 or others:
        found = first_names(others) or f"channels is {channels}"
        raise ValueError(f"{bits} bits are read from image files of 16-bit grey, not from these ({found}): --bits 8 takes the upper 8 "
                         "of all; to keep more, make a .npy array of them (docs/own_images.md)")


def _changes(files: dict[str, FileFormat], channels: int, bits: int) -> list[str]:
    """A line for each kind of change that reading makes, with the number of files."""
    counts = {
        "are grey and become colour": sum(file.colours == 1 and channels > 1 for file in files.values()),
        "are colour and become grey": sum(file.colours == 3 and channels == 1 for file in files.values()),
        "are transparent and are laid over white (--channels 4 keeps transparency)":
            sum(file.channels > file.colours and channels < 4 for file in files.values()),
        "have 16 bits and are reduced to 8": sum(file.bits > 8 >= bits for file in files.values()),
    }
    return [f"of {len(files)} images {count} {what}" for what, count in counts.items() if count]
