"""Changes as a unified diff that `git apply` and `patch -p1` take."""

import difflib
import re
from collections.abc import Iterable, Iterator

from patches.tree.change import Change


def unified_diff(changes: Iterable[Change]) -> bytes:
    """In bytes, so that encodings and line ends of the files are kept."""
    return b"".join(part for change in changes for part in _file_diff(change))


def _file_diff(change: Change) -> Iterator[bytes]:
    old, new = _quoted("a/" + change.path), _quoted("b/" + change.path)
    yield b"diff --git %b %b\n" % (old, new)
    if change.created:
        yield b"new file mode 100644\n"
    yield b"--- %b\n+++ %b\n" % (b"/dev/null" if change.created else _ended(old), _ended(new))
    lines = list(difflib.diff_bytes(difflib.unified_diff, _lines(change.before or b""), _lines(change.after)))
    for line in lines[2:]:  # the first two are the names
        yield line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def _lines(data: bytes) -> list[bytes]:
    """Split at line feeds alone, as git does: a form feed or a lone carriage return ends no line."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _quoted(name: str) -> bytes:
    """A name as git writes it: in quotes, with octal escapes, where it has anything but plain printable characters."""
    data = name.encode()
    if all(32 <= byte < 127 and byte not in b'"\\' for byte in data):
        return data
    return b'"' + b"".join(bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\' else b"\\%03o" % byte
                           for byte in data) + b'"'


def _ended(name: bytes) -> bytes:
    """With the tab that tells where a name with spaces ends."""
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name
