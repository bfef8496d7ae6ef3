"""The command line of python -m patches."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_COMMANDS = {
    "check": "say what would be rewritten and what was not matched; exit 0 nothing to do, 1 would change, 2 cannot",
    "diff": "print a unified diff of what --write would do, for git apply or patch -p1",
    "write": "apply it, all files or none; the originals are kept in PATH/.stable_params_patch",
    "revert": "restore exactly what --write changed",
}


@dataclass(frozen=True)
class Arguments:
    """`command` is check, diff, write or revert; `path` is as it was given."""

    command: str
    path: Path
    vendor: bool
    force: bool


def parse_arguments(argv: Sequence[str] | None) -> Arguments:
    """Exits with status 2, as argparse does, unless there is exactly one command."""
    parser = argparse.ArgumentParser(prog="python -m patches", allow_abbrev=False,
                                     description="Puts stable scales into a checkout of someone's VDVAE code.")
    commands = parser.add_mutually_exclusive_group(required=True)
    for name, meaning in _COMMANDS.items():
        commands.add_argument(f"--{name}", dest="command", action="store_const", const=name, help=meaning)
    parser.add_argument("path", metavar="PATH", type=_folder, help="the folder of the checkout")
    parser.add_argument("--vendor", action="store_true", help="copy stable_params into the checkout as well")
    parser.add_argument("--force", action="store_true",
                        help="--write: even with uncommitted changes; --revert: even over files edited since")
    given = parser.parse_args(argv)
    if given.vendor and given.command == "revert":
        parser.error("--vendor goes with --check, --diff and --write; --revert removes what it copied in any case")
    if given.force and given.command in ("check", "diff"):
        parser.error("--force goes with --write and --revert")
    return Arguments(**vars(given))


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; give the checkout's folder")
    return Path(text)
