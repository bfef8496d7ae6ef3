"""Statements put beside others and imports put on top: everything else stays as it was, to the byte."""

import libcst as cst
import pytest

from patches.syntax.edit import add_import, code_of, insert_after, insert_before, line_of, replace

IMPORT = "from stable_scales import Scales"

ADDED = [
    ("import os\nimport torch\n\n\nx = 1\n", "import os\nimport torch\nfrom stable_scales import Scales\n\n\nx = 1\n"),
    ('"""A model."""\nx = 1\n', '"""A model."""\n\nfrom stable_scales import Scales\nx = 1\n'),
    ("from __future__ import annotations\n\nx = 1\n",
     "from __future__ import annotations\nfrom stable_scales import Scales\n\nx = 1\n"),
    ("# license\n\nx = 1\n", "# license\n\nfrom stable_scales import Scales\nx = 1\n"),
    ("import os\r\nx = 1\r\n", "import os\r\nfrom stable_scales import Scales\r\nx = 1\r\n"),
    ("try:\n    import apex\nexcept ImportError:\n    apex = None\n\ny = 2\n",
     "try:\n    import apex\nexcept ImportError:\n    apex = None\nfrom stable_scales import Scales\n\ny = 2\n"),
    ("import sys\nsys.path.append('.')\nimport hps\n\n\ndef f():\n    pass\n\n\nimport late\n",
     "import sys\nsys.path.append('.')\nimport hps\nfrom stable_scales import Scales\n\n\n"
     "def f():\n    pass\n\n\nimport late\n"),
    ('import os\nif __name__ == "__main__":\n    import train\n',
     'import os\nfrom stable_scales import Scales\nif __name__ == "__main__":\n    import train\n'),
    ("from stable_scales import Other\n", "from stable_scales import Other\nfrom stable_scales import Scales\n"),
    ("from stable_scales import Scales as S\n",
     "from stable_scales import Scales as S\nfrom stable_scales import Scales\n"),
    ("from .stable_scales import Scales\n", "from .stable_scales import Scales\nfrom stable_scales import Scales\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_an_import_goes_below_the_last_one_at_the_top(before, after):
    assert add_import(cst.parse_module(before), IMPORT).code == after


def test_an_import_is_not_added_twice():
    module = cst.parse_module("import os\n# why\nfrom stable_scales import Scales\nx = 1\n")
    assert add_import(module, IMPORT) is module


def test_import_stays_above_the_statement_that_needs_it():
    module = cst.parse_module("import os\nx = 1\nimport late\n")
    assert add_import(module, IMPORT, before=module.body[1]).code == f"import os\n{IMPORT}\nx = 1\nimport late\n"


BLOCKS = "def f():\n\tif 1:\n\t\t# why\n\t\tx = 1  # one\n\t\t# end\n\treturn x"


def inner(module):
    return module.body[0].body.body[0].body.body[0]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_statements_take_on_indentation_and_line_ends(ends):
    module = cst.parse_module(BLOCKS.replace("\n", ends))
    line = inner(module)
    module = insert_after(module, line, "y = 2\nif y:\n    z = 3")
    module = insert_before(module, line, "w = 0")
    wanted = BLOCKS.replace("\t\t# why", "\t\tw = 0\n\t\t# why").replace(
        "# one", "# one\n\t\ty = 2\n\t\tif y:\n\t\t\tz = 3")
    assert module.bytes == wanted.replace("\n", ends).encode()


def test_insertion_beside_a_compound_statement():
    module = cst.parse_module("a = 1\n\n# loop\nfor i in a:\n    pass\nb = 2\n")
    loop = module.body[1]
    module = insert_before(insert_after(module, loop, "y = 2"), loop, "x = 1")
    assert module.code == "a = 1\nx = 1\n\n# loop\nfor i in a:\n    pass\ny = 2\nb = 2\n"


def test_a_statement_is_found_by_identity():
    module = cst.parse_module("x = 1\ny = 2\nx = 1\n")
    assert insert_after(module, module.body[2], "z = 3").code == "x = 1\ny = 2\nx = 1\nz = 3\n"


@pytest.mark.parametrize("find", [
    lambda module: cst.parse_statement("x = 1"),  # equal, not the same
    lambda module: inner(module).body[0],
    lambda module: module,
])  # fmt: skip
def test_insertion_beside_nothing_is_an_error(find):
    module = cst.parse_module(BLOCKS)
    with pytest.raises(ValueError, match="not a statement on lines of its own"):
        insert_after(module, find(module), "y = 2")


def test_replacement_keeps_other_nodes():
    module = cst.parse_module("def f():\n    x = a + b\n    y = 2\n")
    value, other = module.body[0].body.body[0].body[0].value, module.body[0].body.body[1]
    module = replace(module, value.left, cst.Name("c"))
    assert module.code == "def f():\n    x = c + b\n    y = 2\n"
    assert module.body[0].body.body[1] is other
    with pytest.raises(ValueError, match="not in this module: 'a'"):
        replace(module, value.left, cst.Name("c"))


def test_place_and_code_of_a_statement_leave_its_comments_out():
    module = cst.parse_module(BLOCKS)
    assert (line_of(module, inner(module)), code_of(module, inner(module))) == (4, "x = 1  # one")
    assert code_of(module, module.body[0].body.body[0]) == "if 1:\n\t# why\n\tx = 1  # one\n\t# end"
