"""Changes of files, and the files that are added to a checkout: the glue and, on request, a copy of stable_params."""

from dataclasses import dataclass
from pathlib import Path

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
    return [Change(_join(folder, path.name), None, path.read_bytes(), "what the patched code imports") for path in files]


def vendor_changes(root: Path, folder: str, project: Path = _PROJECT) -> list[Change]:
    """The whole folder stable_params but for caches and hidden files, and the licence, beside the glue.

    Raises CheckoutError if the checkout has a stable_params there, or if `project` has none to copy.
    """
    source, home = project / "stable_params", _join(folder, "stable_params")
    if not (source / "__init__.py").is_file():
        raise CheckoutError(f"--vendor copies {source}, and there is no such package")
    if (root / home).exists():
        raise CheckoutError(f"--vendor would overwrite {home}: remove it, or leave --vendor out")
    files = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if _is_copied(path, source)}
    files["LICENSE"] = project / "LICENSE"
    return [Change(_join(home, name), None, path.read_bytes(), "a copy of stable_params") for name, path in files.items()]


def _is_copied(path: Path, source: Path) -> bool:
    parts = path.relative_to(source).parts
    return path.is_file() and not any(part.startswith(".") or part.endswith("cache__") for part in parts)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
