"""Whether a checkout has changes that git does not have."""

import os
import subprocess
from pathlib import Path

from patches.tree.errors import CheckoutError

_SHOWN = 5


def refuse_uncommitted(root: Path) -> None:
    """Raises CheckoutError if git knows of uncommitted changes or cannot tell; a tree outside git passes."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    changes = _status(root)
    if changes:
        more = f"\n    and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        listed = "\n    ".join(changes[:_SHOWN])
        raise CheckoutError(f"{root} has uncommitted changes:\n    {listed}{more}\ncommit them, or give --force")


def _status(root: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")}
    command = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(command, env=environment, capture_output=True)
    except OSError as error:
        raise CheckoutError(f"{root} is in git, but git does not start ({error}): commit, then give --force") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise CheckoutError(f"{root} is in git, but git cannot tell its state: {said}\ngive --force to go on without")
    return done.stdout.decode(errors="replace").splitlines()
