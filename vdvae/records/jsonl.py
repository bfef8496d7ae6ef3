"""Files of JSON lines: a line is appended whole or not at all, and a file is read line by line."""

import errno
import json
import os
from pathlib import Path


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


def read_lines(path: Path) -> tuple[list, bool]:
    """The content of every line, and whether the last line was cut off while it was written; it is left out then.

    Raises ValueError, naming file and line, for any other line that is not JSON.
    """
    records = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                records.append(parse_line(line))
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return records, True
                raise ValueError(f"{path}, line {number}: not JSON: {line[:60]!r}") from error
    return records, False


def parse_line(line: bytes) -> object:
    """The content of one line; raises ValueError if it is not JSON in UTF-8."""
    return json.loads(line.decode())
