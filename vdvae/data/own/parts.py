"""Which images of a folder train a model and which are held out: by a hash of each file's path, and for good."""

import hashlib
import os

from vdvae.data.own.listing import first_names

PARTS = ("train", "valid", "test")
HELD_OUT_PERCENT = 10  # for valid, and as much for test
KEPT_PERCENT = 50  # of a run's images that must still be there when it is resumed

Files = dict[str, str]  # {relative path: digest of the content}
Parts = dict[str, Files]  # by PARTS


def split_by_name(files: Files, known: Parts) -> tuple[Parts, list[str]]:
    """`files` in three parts, and a line for the log on each part that would have been empty.

    An image that is in `known`, by its content or by its path, is in the same part again. Any other is in the part that a
    hash of its path says, so it stays there whatever else is in the folder. Copies of one image are in one part.
    """
    by_content = {digest: part for part, of_part in known.items() for digest in of_part.values()}
    by_name = {name: part for part, of_part in known.items() for name in of_part}
    parts: Parts = {part: {} for part in PARTS}
    for name, digest in files.items():
        part = by_content.get(digest) or by_name.get(name) or part_of(name)
        by_content[digest] = part
        parts[part][name] = digest
    return parts, [_fill(parts, part) for part in PARTS if not parts[part]]


def part_of(name: str) -> str:
    """The part of a file with this path: valid, test, or train for eight in ten."""
    percent = _hash(name) * 100 >> 64
    return "valid" if percent < HELD_OUT_PERCENT else "test" if percent < 2 * HELD_OUT_PERCENT else "train"


def changes(parts: Parts, known: Parts) -> list[str]:
    """Lines for the log on how the images differ from those of the saved run, `known`.

    Raises ValueError when less than KEPT_PERCENT of the known ones are there: it is another folder then.
    """
    before, now = _flat(known), _flat(parts)
    old_digests, digests = set(before.values()), set(now.values())
    groups = {
        "new": [name for name, digest in now.items() if name not in before and digest not in old_digests],
        "renamed or copied": [name for name, digest in now.items() if before.get(name) != digest and digest in old_digests],
        "with other content": [name for name, digest in now.items() if name in before and digest not in old_digests],
        "gone": [name for name, digest in before.items() if name not in now and digest not in digests],
    }
    here = len(before) - len(groups["gone"])
    if here * 100 < len(before) * KEPT_PERCENT:
        raise ValueError(f"of the {len(before)} images of this run {here} are there, less than {KEPT_PERCENT}%: give the "
                         "--data_root that has them, or begin a new run from its weights with --restore_path")
    found = [f"{len(names)} {what}: {first_names(sorted(names))}" for what, names in groups.items() if names]
    return [f"the images have changed since the state was saved; {line}" for line in found]


def _flat(parts: Parts) -> Files:
    return {name: digest for files in parts.values() for name, digest in files.items()}


def _fill(parts: Parts, empty: str) -> str:
    """Move an image of the largest part into the part that is empty, and say so."""
    largest = max(parts.values(), key=len)
    name = min(largest, key=_hash)
    parts[empty][name] = largest.pop(name)
    return f"so few images that none would be in the {empty} part: it gets {first_names([name])}"


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8])
