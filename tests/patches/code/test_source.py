"""Statements put beside others and imports put on top: everything else stays as it was, to the byte."""

import ast

import pytest

from patches.code.source import Source
from patches.problems import CheckoutError

IMPORT = "from stable_scales import Scales"

ADDED = [
    ("import os\nimport torch\n\n\nx = 1\n", "import os\nimport torch\nfrom stable_scales import Scales\n\n\nx = 1\n"),
    ('"""A model."""\nx = 1\n', '"""A model."""\nfrom stable_scales import Scales\nx = 1\n'),
    ("from __future__ import annotations\n\nx = 1\n",
     "from __future__ import annotations\nfrom stable_scales import Scales\n\nx = 1\n"),
    ("# license\n\nx = 1\n", "# license\n\nfrom stable_scales import Scales\nx = 1\n"),
    ("# license\n@f\ndef g(): pass\n", "# license\nfrom stable_scales import Scales\n@f\ndef g(): pass\n"),
    ("import os\r\nx = 1\r\n", "import os\r\nfrom stable_scales import Scales\r\nx = 1\r\n"),
    ("import os", "import os\nfrom stable_scales import Scales"),
    ("", "from stable_scales import Scales\n"),
    ("try:\n    import apex\nexcept ImportError:\n    apex = None\n\ny = 2\n",
     "try:\n    import apex\nexcept ImportError:\n    apex = None\nfrom stable_scales import Scales\n\ny = 2\n"),
    ("import sys\nsys.path.append('.')\nimport hps\n\n\ndef f():\n    pass\n\n\nimport late\n",
     "import sys\nsys.path.append('.')\nimport hps\nfrom stable_scales import Scales\n\n\n"
     "def f():\n    pass\n\n\nimport late\n"),
    ('import os\nif __name__ == "__main__":\n    import train\n',
     'import os\nfrom stable_scales import Scales\nif __name__ == "__main__":\n    import train\n'),
]  # fmt: skip


def edited(source, *edits):
    return source.edited(edits).decode(source.encoding)


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_an_import_goes_below_the_last_one_at_the_top(before, after):
    source = Source("a.py", before.encode())
    assert edited(source, source.add_import(IMPORT), source.add_import(IMPORT)) == after


def test_import_stays_above_the_statement_that_needs_it():
    source = Source("a.py", b"import os\nx = 1\nimport late\n")
    assert edited(source, source.add_import(IMPORT, before=1)) == f"import os\n{IMPORT}\nx = 1\nimport late\n"


BLOCKS = "def f():\n\tif 1:\n\t\t# why\n\t\tx = 'é'  # one\n\t\t# end\n\treturn x"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_statements_take_on_indentation_line_ends_and_encoding(ends, encoding):
    head = "# coding: latin-1\n" * (encoding == "latin-1")
    source = Source("a.py", (head + BLOCKS).replace("\n", ends).encode(encoding))
    line = source.tree.body[0].body[0].body[0]
    wanted = BLOCKS.replace("\t\t# why", "\t\tw = 'ü'\n\t\t# why").replace("# one", "# one\n\t\ty = 2")
    done = source.edited([source.after(line, "y = 2"), source.before(line, "w = 'ü'")])
    assert done == (head + wanted).replace("\n", ends).encode(encoding)


INSERTED = {  # a statement `x = ...`, and the code with one behind it
    "below": ("if a:\n    x = (\n        1)\nb = 2\n", "if a:\n    x = (\n        1)\n    y = x\nb = 2\n"),
    "at the end": ("if a:\n    x = 1", "if a:\n    x = 1\n    y = x"),
    "in the line of a block": ("if a: x = 1\nb = 2\n", "if a: x = 1; y = x\nb = 2\n"),
    "before another": ("x = 1; b = x\n", "x = 1; y = x; b = x\n"),
    "behind another": ("a = 1; x = 1  # one\n", "a = 1; x = 1; y = x  # one\n"),
}


@pytest.mark.parametrize(("before", "after"), INSERTED.values(), ids=INSERTED)
def test_a_statement_behind_another(before, after):
    source = Source("a.py", before.encode())
    (line,) = [node for node in source.nodes if isinstance(node, ast.Assign) and node.targets[0].id == "x"]
    assert edited(source, source.after(line, "y = x")) == after


def test_a_statement_before_another_stands_above_its_comments_but_not_in_a_string():
    source = Source("a.py", b"a = 1\n\n# loop\nfor i in a:\n    pass\nb = '''\n# text'''\nc = 2\n")
    first, second = source.before(source.tree.body[1], "x = 1"), source.before(source.tree.body[3], "y = 2")
    assert edited(source, first, second) == (
        "a = 1\nx = 1\n\n# loop\nfor i in a:\n    pass\nb = '''\n# text'''\ny = 2\nc = 2\n")


def test_replacements_and_form_feeds():
    source = Source("a.py", "x = f(ü, a) # \x0c\n\x0cy = a\n".encode())
    call = source.tree.body[0].value
    assert edited(source, source.replace(call.args[1], "b"), source.replace(call.args[0], "ö")) == "x = f(ö, b) # \x0c\n\x0cy = a\n"


def test_code_of_a_statement_leaves_the_comments_above_it_out():
    source = Source("a.py", BLOCKS.encode())
    outer = source.tree.body[0].body[0]
    assert source.problem(outer.body[0], "", "").line == 4 and source.code(outer.body[0]) == "x = 'é'  # one"
    assert source.code(outer) == "if 1:\n\t# why\n\tx = 'é'  # one"


def test_code_that_is_not_python_is_refused_with_its_line():
    with pytest.raises(CheckoutError, match="a.py:2: syntax error"):
        Source("a.py", b"x = 1\ny = = 2\n")
