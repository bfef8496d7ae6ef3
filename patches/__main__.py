"""Puts stable scales into a checkout of VDVAE code: python -m patches --diff PATH (or --check, --write, --revert)"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from patches.tree.apply import write_changes
from patches.arguments import Arguments, parse_arguments
from patches.tree.change import Change
from patches.tree.checkout import find_root, read_checkout
from patches.tree.diff import unified_diff
from patches.tree.errors import CheckoutError
from patches.tree.git_state import refuse_uncommitted
from patches.tree.patched import is_patched
from patches.plan import REWRITES, Rewrite, new_files, plan, to_changes
from patches.tree.revert import revert
from patches.rewrites.flags import glue_folder
from patches.sources import CannotPatch, Problem, Sources
from patches.tree.targets import check_creations, check_targets

NOTHING, WOULD_CHANGE, CANNOT = 0, 1, 2
_DONE = "already patched, nothing to do"


@dataclass(frozen=True)
class Plugin:
    """What is done to a checkout: the rewrites, and which folder the glue belongs in."""

    rewrites: Sequence[Rewrite] = REWRITES
    glue_folder: Callable[[Sources], str] = glue_folder


def main(argv: Sequence[str] | None = None, plugin: Plugin = Plugin()) -> int:
    """The exit status: 0 done or nothing to do, 1 --check found something to change, 2 it cannot."""
    arguments = parse_arguments(argv)
    try:
        return _COMMANDS[arguments.command](arguments, find_root(arguments.path), plugin)
    except CheckoutError as error:
        print(f"cannot: {error}", file=sys.stderr)
        return CANNOT


def _check(arguments: Arguments, root: Path, plugin: Plugin) -> int:
    if is_patched(root, arguments.vendor):
        return _say(_DONE)
    changes, problems = _work_out(arguments, root, plugin)
    for change in changes:
        print(f"would {'create' if change.created else 'change'} {change.path}: {change.description}")
    _show(problems)
    check_targets(root, changes)
    if problems:
        return CANNOT
    return WOULD_CHANGE if changes else _say("nothing to do")


def _diff(arguments: Arguments, root: Path, plugin: Plugin) -> int:
    """No part of a diff is printed if another part cannot be: it would leave the tree half patched."""
    if is_patched(root, arguments.vendor):
        return NOTHING
    changes, problems = _work_out(arguments, root, plugin)
    _show(problems)
    check_creations(root, changes)
    if problems:
        return CANNOT
    sys.stdout.buffer.write(unified_diff(changes))
    sys.stdout.flush()
    return NOTHING


def _write(arguments: Arguments, root: Path, plugin: Plugin) -> int:
    if is_patched(root, arguments.vendor):
        return _say(_DONE)
    changes, problems = _work_out(arguments, root, plugin)
    _show(problems)
    if problems:
        return CANNOT
    if not changes:
        return _say("nothing to do")
    if not arguments.force:
        refuse_uncommitted(root)
    write_changes(root, changes)
    for change in changes:
        print(f"{'created' if change.created else 'changed'} {change.path}: {change.description}")
    if not arguments.vendor:
        print("the patched code imports stable_params: install it where this code runs, or --revert and use --vendor")
    return _say(f"to undo all of it: python -m patches --revert {arguments.path}")


def _revert(arguments: Arguments, root: Path, plugin: Plugin) -> int:
    manifest = revert(root, arguments.force)
    for entry in manifest.files:
        print(f"{'removed' if entry.created else 'restored'} {entry.path}")
    return NOTHING


_COMMANDS = {"check": _check, "diff": _diff, "write": _write, "revert": _revert}


def _work_out(arguments: Arguments, root: Path, plugin: Plugin) -> tuple[list[Change], list[Problem]]:
    checkout = read_checkout(root)
    for note in checkout.notes:
        print(note, file=sys.stderr)
    planned = plan(checkout.sources, plugin.rewrites)
    changes, problems = to_changes(checkout, planned)
    problems = [*planned.problems, *problems]
    if changes:
        try:
            changes += new_files(checkout, plugin.glue_folder(checkout.sources), arguments.vendor)
        except CannotPatch as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return changes, problems


def _show(problems: Sequence[Problem]) -> None:
    for problem in problems:
        print(f"cannot: {problem}", file=sys.stderr)


def _say(message: str) -> int:
    print(message)
    return NOTHING


if __name__ == "__main__":
    sys.exit(main())
