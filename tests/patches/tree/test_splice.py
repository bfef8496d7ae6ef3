"""A change is carried over to bytes that LibCST does not print back."""

import libcst as cst
import libcst.matchers as m
import pytest
from patches.tree.splice import spliced

KEPT = {
    "form feeds": (b"\x0cimport a\n\x0c\ndef f():\n    old\n", b"\x0cimport a\n\x0c\ndef f():\n    new\n"),
    "first line": (b"old\n\x0cx = 1\n", b"new\n\x0cx = 1\n"),
    "blanks at the end": (b"x = old\n\n   \n# end\n   ", b"x = new\n\n   \n# end\n   "),
    "a carriage return at the end": (b"x = old\r\ny = 2\r\nz = 3\r", b"x = new\r\ny = 2\r\nz = 3\r"),
    "the same line twice": (b"x = 1\n\x0cx = 1\nold\nx = 1\n\x0cx = 1\n", b"x = 1\n\x0cx = 1\nnew\nx = 1\n\x0cx = 1\n"),
    "nothing lost": (b"x = old\n", b"x = new\n"),
}


@pytest.mark.parametrize("before, after", KEPT.values(), ids=KEPT)
def test_what_is_not_printed_back_is_kept(before, after):
    module = cst.parse_module(before)
    changed = module.deep_replace(_name(module, "old"), cst.Name("new"))
    assert spliced(before, module.bytes, changed.bytes) == after


def test_an_inserted_line(before=b"\x0cx = 1\ny = 2\n"):
    printed = cst.parse_module(before).bytes
    assert spliced(before, printed, printed + b"z = 3\n") == before + b"z = 3\n"
    assert spliced(before, printed, printed.replace(b"y", b"w = 0\ny")) == b"\x0cx = 1\nw = 0\ny = 2\n"


def test_a_changed_line_that_is_not_printed_back():
    before = b"y = 2\n\x0cx = old\n"
    printed = cst.parse_module(before).bytes
    assert printed != before
    assert spliced(before, printed, printed.replace(b"old", b"new")) is None


def test_what_would_mean_something_else_is_not_carried_over():
    assert spliced(b"if a:\nx\nold\n", b"if a:\n  x\nold\n", b"if a:\n  x\nnew\n") is None


def _name(module, value):
    return m.findall(module, m.Name(value))[0]
