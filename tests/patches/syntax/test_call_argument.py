"""An argument added to a call keeps the call's layout."""

import libcst as cst
import pytest

from patches.syntax.call_argument import with_last_argument

CALLS = [
    ("f()", "f(**new)"),
    ("f(a)", "f(a, **new)"),
    ("f(a,b)", "f(a,b,**new)"),
    ("f(a, b,)", "f(a, b, **new,)"),
    ("f(a, **b)", "f(a, **b, **new)"),
    ("f(a,\n  b)", "f(a,\n  b,\n  **new)"),
    ("f(\n    a,\n    b,\n)", "f(\n    a,\n    b,\n    **new,\n)"),
    ("f(\n    a,\n    b\n)", "f(\n    a,\n    b,\n    **new\n)"),
    ("f(\n    a\n)", "f(\n    a,\n    **new\n)"),
    ("f(\n    a,\n)", "f(\n    a,\n    **new,\n)"),
    ("f(\n    a,  # one\n\n    # two\n    b,  # three\n)",
     "f(\n    a,  # one\n\n    # two\n    b,  # three\n    **new,\n)"),
    ("f(\n    a,  # one\n    b  # two\n)", "f(\n    a,  # one\n    b,\n    **new  # two\n)"),
]


@pytest.mark.parametrize(("before", "after"), CALLS)
def test_layout_is_kept(before, after):
    call = with_last_argument(cst.parse_expression(before), cst.Arg(cst.Name("new"), star="**"))
    assert cst.Module([]).code_for_node(call) == after
