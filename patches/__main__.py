"""Brings stable scales to a checkout of VDVAE code: python -m patches --diff PATH (or --check, --write, --revert)"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from patches.plan import Plan, make_plan
from patches.problems import CheckoutError
from patches.tree.checkout import find_root, read_checkout
from patches.tree.diff import unified_diff
from patches.tree.git import refuse_uncommitted
from patches.tree.record import is_patched
from patches.tree.write import check_targets, revert, write_changes

DONE, WOULD_CHANGE, CANNOT = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done or nothing to do, 1 --check found something to change, 2 the checkout is refused."""
    arguments = parse_arguments(argv)
    try:
        _, command = _COMMANDS[arguments.command]
        return command(arguments, find_root(arguments.path))
    except CheckoutError as error:
        print(f"cannot: {error}", file=sys.stderr)
        return CANNOT


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """`command`, `path`, `vendor` and `force`; exits with status 2 unless there is exactly one command."""
    parser = argparse.ArgumentParser(prog="python -m patches", allow_abbrev=False,
                                     description="Brings stable scales to a checkout of someone's VDVAE code.")
    commands = parser.add_mutually_exclusive_group(required=True)
    for name, (meaning, _) in _COMMANDS.items():
        commands.add_argument(f"--{name}", dest="command", action="store_const", const=name, help=meaning)
    parser.add_argument("path", metavar="PATH", type=_folder, help="the folder of the checkout")
    parser.add_argument("--vendor", action="store_true", help="copy stable_params into the checkout as well")
    parser.add_argument("--force", action="store_true",
                        help="--write: even with uncommitted changes; --revert: even over files edited since")
    given = parser.parse_args(argv)
    if given.vendor and given.command == "revert":
        parser.error("--vendor goes with --check, --diff and --write; --revert removes its copy in any case")
    if given.force and given.command in ("check", "diff"):
        parser.error("--force goes with --write and --revert")
    return given


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; give the checkout's folder")
    return Path(text)


def _check(arguments: argparse.Namespace, root: Path) -> int:
    if is_patched(root, arguments.vendor):
        return _say("already patched, nothing to do")
    plan = _plan(arguments, root)
    check_targets(root, plan.changes)
    if plan.problems:
        return CANNOT
    for change in plan.changes:
        print(f"would {'create' if change.created else 'change'} {change.path}: {change.description}")
    return WOULD_CHANGE if plan.changes else _say("nothing to do")


def _diff(arguments: argparse.Namespace, root: Path) -> int:
    """Prints the whole diff or none of it: a part of it would leave the tree patched in part."""
    if is_patched(root, arguments.vendor):
        return DONE
    plan = _plan(arguments, root)
    check_targets(root, plan.changes)
    if plan.problems:
        return CANNOT
    sys.stdout.buffer.write(unified_diff(plan.changes))
    sys.stdout.flush()
    return DONE


def _write(arguments: argparse.Namespace, root: Path) -> int:
    if is_patched(root, arguments.vendor):
        return _say("already patched, nothing to do")
    plan = _plan(arguments, root)
    if plan.problems:
        return CANNOT
    if not plan.changes:
        return _say("nothing to do")
    if not arguments.force:
        refuse_uncommitted(root)
    write_changes(root, plan.changes)
    for change in plan.changes:
        print(f"{'created' if change.created else 'changed'} {change.path}: {change.description}")
    if not arguments.vendor:
        print("the patched code imports stable_params: install it where this code runs, or --revert and use --vendor")
    return _say(f"to undo all of it: python -m patches --revert {arguments.path}")


def _revert(arguments: argparse.Namespace, root: Path) -> int:
    for entry in revert(root, arguments.force).files:
        print(f"{'removed' if entry.created else 'restored'} {entry.path}")
    return DONE


def _plan(arguments: argparse.Namespace, root: Path) -> Plan:
    """The plan, whose problems have been printed."""
    checkout = read_checkout(root)
    for note in checkout.notes:
        print(note, file=sys.stderr)
    plan = make_plan(checkout, arguments.vendor)
    for problem in plan.problems:
        print(f"cannot: {problem}", file=sys.stderr)
    return plan


def _say(message: str) -> int:
    print(message)
    return DONE


_COMMANDS = {
    "check": ("say what would be changed and what was not matched; exit 0 nothing to do, 1 would change, 2 cannot", _check),
    "diff": ("print a unified diff of what --write would do, for git apply or patch -p1", _diff),
    "write": ("apply it, all files or none; the originals are kept in PATH/.stable_params_patch", _write),
    "revert": ("restore exactly what --write changed", _revert),
}

if __name__ == "__main__":
    sys.exit(main())
