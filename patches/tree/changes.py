"""Changes of files, their diff, and the files that are added: the glue and, on request, a copy of stable_params."""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from patches.problems import CheckoutError

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Change:
    """`path` is relative to the checkout, with slashes; `before` is None for a file that is created."""

    path: str
    before: bytes | None
    after: bytes
    description: str

    @property
    def created(self) -> bool:
        return self.before is None


def glue_changes(folder: str) -> list[Change]:
    """The modules that the patched code imports, in `folder`: a path in the checkout, "" for the checkout itself."""
    files = sorted((_PROJECT / "patches" / "glue").glob("*.py"))
    description = "what the patched code imports"
    return [Change(str(PurePosixPath(folder, path.name)), None, path.read_bytes(), description) for path in files]


def vendor_changes(root: Path, folder: str, project: Path = _PROJECT) -> list[Change]:
    """stable_params and the licence, beside the glue; raises CheckoutError if that is in the way, or there is none to copy."""
    source, home = project / "stable_params", PurePosixPath(folder, "stable_params")
    if not (source / "__init__.py").is_file():
        raise CheckoutError(f"--vendor copies {source}, and there is no such package")
    if (root / home).exists():
        raise CheckoutError(f"--vendor would overwrite {home}: remove it, or leave --vendor out")
    found = [path for path in sorted(source.rglob("*")) if path.suffix in (".md", ".py", ".typed")]
    files = {path.relative_to(source).as_posix(): path for path in found}
    files["LICENSE"] = project / "LICENSE"
    return [Change(str(home / name), None, path.read_bytes(), "a copy of stable_params") for name, path in files.items()]


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
