"""The command line: one command, one path, and flags where they mean something."""

import pytest

from patches.__main__ import parse_arguments

UNDERSTOOD = {
    "path last": (["--check", "a"], ("check", False, False)),
    "flag between": (["--write", "--vendor", "a"], ("write", True, False)),
    "path first": (["a", "--revert", "--force"], ("revert", False, True)),
    "both flags": (["--write", "a", "--force", "--vendor"], ("write", True, True)),
    "a diff of both": (["--vendor", "--diff", "a"], ("diff", True, False)),
}


@pytest.mark.parametrize("argv, expected", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_what_is_understood(argv, expected):
    given = parse_arguments(argv)
    assert (given.command, given.vendor, given.force) == expected and given.path == "a"


USAGE = {
    "no command": (["."], "one of the arguments"),
    "two commands": (["--check", ".", "--diff", "."], "not allowed with"),
    "no path": (["--check"], "required: PATH"),
    "two paths": (["--check", ".", ".."], "unrecognized arguments: .."),
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
