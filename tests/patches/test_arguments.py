"""The command line: one command, one path, and flags where they mean something."""

from pathlib import Path

import pytest
from patches.arguments import Arguments, parse_arguments

UNDERSTOOD = {
    "path last": (["--check", "a"], Arguments("check", Path("a"), vendor=False, force=False)),
    "flag between": (["--write", "--vendor", "a"], Arguments("write", Path("a"), vendor=True, force=False)),
    "path first": (["a", "--revert", "--force"], Arguments("revert", Path("a"), vendor=False, force=True)),
    "both flags": (["--write", "a", "--force", "--vendor"], Arguments("write", Path("a"), vendor=True, force=True)),
    "a diff of both": (["--vendor", "--diff", "a"], Arguments("diff", Path("a"), vendor=True, force=False)),
}


@pytest.mark.parametrize("argv, arguments", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_what_is_understood(argv, arguments):
    assert parse_arguments(argv) == arguments


USAGE = {
    "no command": (["."], "one of the arguments"),
    "two commands": (["--check", ".", "--diff", "."], "not allowed with"),
    "no path": (["--check"], "required: PATH"),
    "two paths": (["--check", ".", ".."], "unrecognized arguments: .."),
    "empty path": (["--revert", ""], "the path is empty"),
    "abbreviated": (["--wri", "."], "required"),
    "vendor at revert": (["--revert", ".", "--vendor"], "--vendor goes with"),
    "force at diff": (["--diff", ".", "--force"], "--force goes with"),
    "force at check": (["--check", ".", "--force"], "--force goes with"),
}


@pytest.mark.parametrize("arguments, said", USAGE.values(), ids=USAGE)
def test_what_is_not_understood(capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(arguments)
    assert stop.value.code == 2 and said in capsys.readouterr().err
