"""The files that come new into a checkout: the glue, and on request a copy of stable_params."""

from pathlib import Path

from patches.tree.change import Change
from patches.tree.errors import CheckoutError

_PROJECT = Path(__file__).resolve().parents[2]
_GLUE = _PROJECT / "patches" / "glue"


def glue_changes(folder: str) -> list[Change]:
    """What the patched code imports, in `folder`: a path in the checkout, "" for the checkout itself."""
    return [Change(_join(folder, path.name), None, path.read_bytes(), "what the patched code imports")
            for path in sorted(_GLUE.glob("*.py"))]


def vendor_changes(root: Path, folder: str, project: Path = _PROJECT) -> list[Change]:
    """stable_params, with its README and the licence, beside the glue.

    Raises CheckoutError if stable_params is there already, or if `project` has none to copy.
    """
    source, home = project / "stable_params", _join(folder, "stable_params")
    files = [*sorted(source.glob("*.py")), source / "README.md", project / "LICENSE"]
    missing = [str(path) for path in (source / "__init__.py", *files) if not path.is_file()]
    if missing:
        raise CheckoutError(f"--vendor copies stable_params out of this project, and it lacks {', '.join(missing)}")
    if (root / home).exists():
        raise CheckoutError(f"--vendor would overwrite {home}: remove it, or leave --vendor out")
    return [Change(_join(home, path.name), None, path.read_bytes(), "a copy of stable_params") for path in files]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
