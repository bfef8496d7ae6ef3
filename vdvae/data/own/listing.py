"""The image files below a folder: found, checked by their headers, and known again by a digest of their content."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from vdvae.data.files import written_whole
from vdvae.data.image_file import SUFFIXES, UNDECODABLE, FileFormat, format_of

UNUSABLE_PERCENT = 10  # a larger share of files that cannot be used is an error; one file never is
SAMPLE_BYTES = 16384  # at the start and at the end of a file: what its digest is made of, besides its size
NAMED = 20  # files that a message names


class Listing(NamedTuple):
    """The usable images of a folder, by relative path, and lines for the log that say what was left out."""

    digests: dict[str, str]
    formats: dict[str, FileFormat]
    notes: list[str]


def list_images(root: Path) -> list[Path]:
    """Image files at any depth below `root`, sorted by relative path; hidden files and folders are left out.

    Links are followed, but a folder is not read again inside itself. Raises FileNotFoundError when there is no image.
    """
    return [root / name for name in _by_type(root)[0]]


def checked_images(root: Path) -> Listing:
    """The usable files of `list_images`.

    A file is usable if it can be opened as an image. Digests of equal files are equal. What was found lies in the user's
    cache, and files of the same size and time are not opened again. Raises FileNotFoundError when there is no image,
    ValueError when all of them, or more than UNUSABLE_PERCENT of them and more than one, cannot be used.
    """
    names, notes = _by_type(root)
    cache, found, problems = _read_cache(root), {}, {}
    for name in tqdm(names, f"checking {root}", disable=None, leave=False, delay=2):
        try:
            found[name] = _checked(root / name, cache.get(name))
        except UNDECODABLE as error:
            problems[name] = _reason(error)
    if problems:
        notes.append(_left_out(problems, len(names), root))
    if found != cache:
        _write_cache(root, found)
    return Listing({name: entry[2] for name, entry in found.items()},
                   {name: FileFormat(*entry[3:]) for name, entry in found.items()}, notes)


def digest_of(path: Path) -> str:
    """A digest of a file's size, its first and its last SAMPLE_BYTES."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        content = file.read(SAMPLE_BYTES)
        file.seek(max(0, size - SAMPLE_BYTES))
        content += file.read()
    return hashlib.sha256(b"%d " % size + content).hexdigest()[:16]


def first_names(names: list[str]) -> str:
    """The first NAMED names, and how many more there are."""
    text = ", ".join(os.fsencode(name).decode(errors="replace") for name in names[:NAMED])
    return text + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _by_type(root: Path) -> tuple[list[str], list[str]]:
    """Sorted relative paths of the images, and at most one note that counts the other files by type."""
    by_type = defaultdict(list)
    for path in _walk(root):
        by_type["image" if path.suffix.lower() in SUFFIXES else _type(path)].append(path.relative_to(root).as_posix())
    images = sorted(by_type.pop("image", []))
    if not images:
        raise FileNotFoundError(f"no images below {root}: files must end in {', '.join(SUFFIXES)}")
    counts = ", ".join(f"{kind} {len(names)}" for kind, names in sorted(by_type.items()))
    return images, [f"left out below {root}, by type: {counts}"] if counts else []


def _walk(folder: Path, above: frozenset = frozenset()) -> Iterator[Path]:
    """Files below `folder`, and folders that must not be opened; `above` identifies the folders that `folder` lies in."""
    here = above | {_inode(folder)}
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif not os.access(path, os.R_OK | os.X_OK):
            yield path
        elif _inode(path) not in here:
            yield from _walk(path, here)


def _type(path: Path) -> str:
    return "folder without permission" if path.is_dir() else path.suffix.lower() or "no ending"


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _checked(path: Path, cached: list | None) -> list:
    """[size, time of the last change, digest, channels, bits] of an image file; one of UNDECODABLE.

    It is `cached` if size and time are those, and if it is no entry from before channels and bits were kept.
    """
    stat = path.stat()
    if cached and cached[:2] == [stat.st_size, stat.st_mtime_ns] and len(cached) == 5:
        return cached
    with open(path, "rb") as file, Image.open(file) as image:
        found = format_of(image)
    return [stat.st_size, stat.st_mtime_ns, digest_of(path), *found]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return getattr(error, "strerror", None) or str(error)


def _left_out(problems: dict[str, str], total: int, root: Path) -> str:
    named = first_names([f"{name} ({reason})" for name, reason in problems.items()])
    if len(problems) > max(1, total * UNUSABLE_PERCENT // 100) or len(problems) == total:
        raise ValueError(f"{len(problems)} of {total} images below {root} cannot be used, more than {UNUSABLE_PERCENT}%: {named}")
    return f"left out, as they cannot be used: {len(problems)} of {total} images below {root}: {named}"


def _cache_file(root: Path) -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder, "vdvae", hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16] + ".json")


def _read_cache(root: Path) -> dict[str, list]:
    try:
        return dict(json.loads(_cache_file(root).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _write_cache(root: Path, found: dict[str, list]) -> None:
    """Write the cache if its folder can be written; ranks that write at the same time write the same."""
    path = _cache_file(root)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(found))
