"""Brings stable scales to a checkout of VDVAE code: python -m patches --diff PATH (or --check, --write, --revert)"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from patches.plan import make_plan
from patches.problems import CheckoutError
from patches.tree.changes import Change, unified_diff
from patches.tree.checkout import find_root, read_checkout
from patches.tree.record import is_patched
from patches.tree.write import check_creations, check_targets, refuse_uncommitted, revert, write_changes

DONE, WOULD_CHANGE, CANNOT = 0, 1, 2
COMMANDS = {
    "check": "say what would be changed and what was not matched; exit 0 nothing to do, 1 would change, 2 cannot",
    "diff": "print a unified diff of what --write would do, for git apply or patch -p1",
    "write": "apply it, all files or none; the originals are kept in PATH/.stable_params_patch",
    "revert": "restore exactly what --write changed",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done or nothing to do, 1 --check found something to change, 2 the checkout is refused."""
    arguments = parse_arguments(argv)
    try:
        root = find_root(arguments.path)
        return _revert(root, arguments.force) if arguments.command == "revert" else _patch(root, arguments)
    except CheckoutError as error:
        print(f"cannot: {error}", file=sys.stderr)
        return CANNOT


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """`command`, `path`, `vendor` and `force`; exits with status 2 unless there is exactly one command."""
    parser = argparse.ArgumentParser(prog="python -m patches", allow_abbrev=False,
                                     description="Brings stable scales to a checkout of someone's VDVAE code.")
    commands = parser.add_mutually_exclusive_group(required=True)
    for name, meaning in COMMANDS.items():
        commands.add_argument(f"--{name}", dest="command", action="store_const", const=name, help=meaning)
    parser.add_argument("path", metavar="PATH", help="the folder of the checkout")
    parser.add_argument("--vendor", action="store_true", help="copy stable_params into the checkout as well")
    parser.add_argument("--force", action="store_true",
                        help="--write: even with uncommitted changes; --revert: even over files edited since")
    given = parser.parse_args(argv)
    if given.vendor and given.command == "revert":
        parser.error("--vendor goes with --check, --diff and --write; --revert removes its copy in any case")
    if given.force and given.command in ("check", "diff"):
        parser.error("--force goes with --write and --revert")
    return given


def _patch(root: Path, arguments: argparse.Namespace) -> int:
    """Checks, prints the diff or writes; nothing but the problems if there are any."""
    if is_patched(root, arguments.vendor):
        print("already patched, nothing to do", file=sys.stderr if arguments.command == "diff" else sys.stdout)
        return DONE
    checkout = read_checkout(root)
    changes, problems = make_plan(checkout, arguments.vendor)
    for line in [*checkout.notes, *(f"cannot: {problem}" for problem in problems)]:
        print(line, file=sys.stderr)
    check_creations(root, changes)
    if problems:
        return CANNOT
    if arguments.command == "diff":
        sys.stdout.buffer.write(unified_diff(changes))
        sys.stdout.flush()
        return DONE
    if arguments.command == "write" and changes:
        return _write(root, changes, arguments)
    check_targets(root, changes)
    for change in changes:
        print(f"would {'create' if change.created else 'change'} {change.path}: {change.description}")
    print("nothing to do\n" * (not changes), end="")
    return WOULD_CHANGE if changes else DONE


def _write(root: Path, changes: Sequence[Change], arguments: argparse.Namespace) -> int:
    if not arguments.force:
        refuse_uncommitted(root)
    write_changes(root, changes)
    for change in changes:
        print(f"{'created' if change.created else 'changed'} {change.path}: {change.description}")
    if not arguments.vendor:
        print("the patched code imports stable_params: install it where this code runs, or --revert and use --vendor")
    print(f"to undo all of it: python -m patches --revert {arguments.path}")
    return DONE


def _revert(root: Path, force: bool) -> int:
    for entry in revert(root, force):
        print(f"{'removed' if entry.created else 'restored'} {entry.path}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
