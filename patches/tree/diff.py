"""Writes changes as a unified diff that `git apply` and `patch -p1` take."""

import difflib
import re
from collections.abc import Iterable, Iterator

from patches.tree.changes import Change


def unified_diff(changes: Iterable[Change]) -> bytes:
    """The diff in bytes, so that the encodings and line ends of the files are kept."""
    return b"".join(part for change in changes for part in _file_diff(change))


def _file_diff(change: Change) -> Iterator[bytes]:
    name = change.path.encode()
    end = b"\t" if b" " in name else b""  # the tab marks where a name with spaces ends
    old = b"/dev/null" if change.created else b"a/" + name + end
    yield b"diff --git a/%b b/%b\n" % (name, name)
    if change.created:
        yield b"new file mode 100644\n"
    yield b"--- %b\n+++ b/%b\n" % (old, name + end)
    lines = list(difflib.diff_bytes(difflib.unified_diff, _lines(change.before or b""), _lines(change.after)))
    for line in lines[2:]:  # the first two are the names
        yield line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def _lines(data: bytes) -> list[bytes]:
    """Lines that end at line feeds alone, as in git: a form feed or a lone carriage return ends no line."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)
