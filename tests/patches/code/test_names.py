"""Names are followed through every form of import to the function that they mean."""

import pytest

from patches.code.names import find_module, visible
from tests.patches.edits import parse

KL = "def kl(a): return a\n\nclass Tools:\n    @staticmethod\n    def draw(a): return a\n"


def sources(**texts):
    paths = {name: name.replace("__", "/").replace("/init", "/__init__") for name in texts}
    return parse({paths[name] + ".py": text for name, text in texts.items()})


@pytest.mark.parametrize(
    "statement, name, place",
    [
        ("from helpers import kl", "kl", ("helpers.py", "kl")),
        ("from helpers import kl as divergence", "divergence", ("helpers.py", "kl")),
        ("from helpers import *", "kl", ("helpers.py", "kl")),
        ("import helpers", "helpers.kl", ("helpers.py", "kl")),
        ("import helpers as h", "h.Tools.draw", ("helpers.py", "Tools.draw")),
        ("from pkg.inner import kl", "kl", ("pkg/inner.py", "kl")),
        ("from pkg import inner", "inner.kl", ("pkg/inner.py", "kl")),
        ("def kl(a): return 1", "kl", ("block.py", "kl")),
        ("try:\n    from pkg.helpers import kl\nexcept ImportError:\n    from helpers import kl", "kl", ("helpers.py", "kl")),
    ],
)
def test_meaning_of_a_name(statement, name, place):
    tree = sources(helpers=KL, pkg__inner=KL, pkg__init="", block=statement + "\n")
    assert visible(tree, "block.py")[name] == place


@pytest.mark.parametrize("statement", ["from .inner import kl", "from . import inner", "from ..pkg.inner import kl"])
def test_relative_imports_start_at_the_modules_folder(statement):
    tree = sources(pkg__inner=KL, pkg__init="", inner="def other(): pass\n", pkg__block=statement + "\n")
    assert ("pkg/inner.py", "kl") in visible(tree, "pkg/block.py").values()


@pytest.mark.parametrize(
    "statement", ["from torch import kl", "import helpers2", "from .missing import kl", "import torch.nn as nn"]
)
def test_modules_that_are_not_in_the_checkout_mean_nothing(statement):
    assert visible(sources(helpers=KL, block=statement + "\n"), "block.py") == {}


def test_a_package_may_lie_in_a_folder_or_be_the_checkout_itself():
    assert find_module(sources(src__vdvae__helpers=KL), "src/vdvae/block.py", "vdvae.helpers") == "src/vdvae/helpers.py"
    assert find_module(sources(helpers=KL, block=""), "block.py", "vdvae.helpers") == "helpers.py"


def test_the_file_beside_comes_before_one_of_the_same_name_elsewhere():
    tree = sources(helpers="def other(): pass\n", model__helpers=KL, model__block="from helpers import kl\n")
    assert visible(tree, "model/block.py")["kl"] == ("model/helpers.py", "kl")
