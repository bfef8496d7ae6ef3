"""Files of JSON lines: a line is appended whole or not at all, and a file is read line by line."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

_LONGEST_INT = 20  # digits, as a seed of 64 bits has


def append_whole(path: Path, content: bytes) -> None:
    """Append all of `content`; raises OSError if there is no room, and leaves the file as it was."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(size)
            raise


def read_lines(path: Path, take: Callable[[bytes], object]) -> int | None:
    """Give each line to `take`; returns the number of the last line if it was cut off while it was written: then it is left out.

    A last line that was cut off has no end, and `take` raises ValueError. Any other ValueError gets the names of file and line.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                take(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return number
                raise ValueError(f"{path}, line {number}: {error}") from error
    return None


def parse_line(line: bytes) -> dict:
    """The object in one line; raises ValueError if it is not JSON in UTF-8 or no object."""
    try:
        content = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {line[:60]!r}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {line[:60]!r}")
    return content


def _whole(text: str) -> int:
    if len(text) > _LONGEST_INT:
        raise ValueError(f"{text[:_LONGEST_INT]}... is too long a number")
    return int(text)


_DECODER = json.JSONDecoder(parse_int=_whole)
