"""Asks git for changes that it does not have."""

import os
import subprocess
from pathlib import Path

from patches.problems import CheckoutError


def refuse_uncommitted(root: Path) -> None:
    """Raises CheckoutError if git has uncommitted changes or cannot say; a tree outside git passes."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise CheckoutError(f"{root} is in git, but git does not start ({error}): commit, then give --force") from None
    if done.returncode != 0:
        raise CheckoutError(f"{root} is in git, but git status fails: {done.stderr.strip()}\ngive --force to continue without it")
    changes = done.stdout.splitlines()
    if changes:
        listed = "\n    ".join(changes[:5] + [f"and {len(changes) - 5} more"] * (len(changes) > 5))
        raise CheckoutError(f"{root} has uncommitted changes:\n    {listed}\ncommit them, or give --force")
