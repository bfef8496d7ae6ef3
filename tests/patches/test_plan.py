"""The edits of all rewrites come together, and everything that could not be matched is collected."""

import ast

import pytest

from patches import plan
from patches.problems import CannotPatch, CheckoutError, Problem
from patches.tree.checkout import read_checkout
from tests.patches.fork import FILES


def renames(old, new):
    """A rewrite that renames in every module that has the name."""

    def rewrite(sources):
        return [source.replace(node, new) for source in sources.values() for node in source.nodes
                if isinstance(node, ast.Name) and node.id == old]  # fmt: skip

    return rewrite


def cannot(*lines):
    def rewrite(sources):
        raise CannotPatch(*(Problem("vae.py", line, "differs", "x", "change it") for line in lines))

    return rewrite


@pytest.fixture()
def planned(make_tree, monkeypatch):
    """The plan of these rewrites for a checkout; its glue goes into the folder `model`."""

    def run(files, *rewrites, vendor=False):
        monkeypatch.setattr(plan, "REWRITES", {f"rewrite {number}": each for number, each in enumerate(rewrites)})
        monkeypatch.setattr("patches.rewrites.flags.glue_folder", lambda sources: "model")
        changes, problems = plan.make_plan(read_checkout(make_tree(files)), vendor)
        new = [change.path for change in changes if change.created]
        return [change for change in changes if not change.created], problems, new

    return run


def test_the_edits_of_all_rewrites_are_made(planned):
    changes, problems, _ = planned({"vae.py": b"a = b\n", "other.py": b"x = 1\n"}, renames("a", "c"), renames("b", "d"))
    assert [(change.path, change.before, change.after) for change in changes] == [("vae.py", b"a = b\n", b"c = d\n")]
    assert changes[0].description == "rewrite 0; rewrite 1" and problems == []


def test_all_problems_are_collected_once(planned):
    changes, problems, _ = planned({"vae.py": b"a = 1\n"}, cannot(1, 2), renames("a", "b"), cannot(2, 3))
    assert [problem.line for problem in problems] == [1, 2, 3]
    assert [change.after for change in changes] == [b"b = 1\n"]


def test_the_rewrites_of_the_plugin():
    modules = [rewrite.__module__ for rewrite in plan.REWRITES.values()]
    assert modules == ["patches.rewrites.latents", "patches.rewrites.flags", "patches.rewrites.counts"]


def test_new_files_with_and_without_stable_params(planned):
    _, _, alone = planned({"model/vae.py": b"a = 1\n"}, renames("a", "b"))
    assert alone == ["model/stable_scales.py", "model/update_log.py"]
    _, _, vendored = planned({"model/vae.py": b"a = 1\n"}, renames("a", "b"), vendor=True)
    assert vendored[:2] == alone and "model/stable_params/__init__.py" in vendored


SCRIPT = "from gaussians import gaussian_kl\nfrom model import Latent\n\n\ndef rate(b, x):\n    return gaussian_kl(*b.sample(x))\n"


def test_files_that_neither_the_model_nor_its_training_import_decide_nothing(make_tree):
    tools = {"run.py": "import hps, model, train\n", "tools/old.py": "print 'x'\n", "stats.py": SCRIPT, "other/hps.py": FILES["hps.py"]}
    checkout = read_checkout(make_tree({path: text.encode() for path, text in (FILES | tools).items()}))
    changes, problems = plan.make_plan(checkout, vendor=False)
    assert not problems and {change.path for change in changes} & set(FILES) == {"hps.py", "model.py", "train.py"}
    assert [note.split(":")[:2] for note in checkout.notes] == [["tools/old.py", "1"], ["stats.py", "6"]]
    assert all(note.endswith("this file is left alone") for note in checkout.notes)


@pytest.mark.parametrize("importer", ["model.py", "train.py", "gaussians.py"])
def test_a_file_that_the_model_or_its_training_imports_must_be_python_3(make_tree, importer):
    files = FILES | {"extra.py": "print 'x'\n", "train.py": "from model import Model\n" + FILES["train.py"]}
    files[importer] = "import extra\n" + files[importer]
    with pytest.raises(CheckoutError, match="extra.py:1: syntax error"):
        plan.make_plan(read_checkout(make_tree({path: text.encode() for path, text in files.items()})), vendor=False)


def test_another_model_that_takes_the_same_flags_decides_too(make_tree):
    files = FILES | {"run.py": "import hps, model, train\n", "run2.py": "import hps, model2, train\n"}
    files["model2.py"] = FILES["model.py"].replace("z = gaussian_draw", "qs = 0.5 * qs\n        z = gaussian_draw")
    _, problems = plan.make_plan(read_checkout(make_tree({path: text.encode() for path, text in files.items()})), vendor=False)
    assert [problem.path for problem in problems] == ["model2.py"]


OBSTACLES = {
    "import jax.numpy as jnp\ndef kl(m, s):\n    return jnp.exp(s) + m\n": "this is code for jax",
    "from torch.distributions import kl_divergence\nloss = kl_divergence(q, p)\nloss.backward()\n": "this KL is that of a library",
    "def normal_kl(m, s):\n    return (s.exp() + m).clamp(min=1)\n": "normal_kl has (s.exp() + m).clamp, which is not known",
    "for x in data:\n    model(x).backward()\n    log(type='train_loss')\n": "no function here computes the KL of two normals",
    "import torch\ndef kl(m1, m2, s1, s2):\n    return torch.log(s2 / s1) + (s1 ** 2 + (m1 - m2) ** 2) / (2 * s2 ** 2) - 0.5\n":
        "kl is a KL that no class calls",
}


@pytest.mark.parametrize("text, said", OBSTACLES.items(), ids=OBSTACLES.values())
def test_where_no_class_calls_a_kl_the_obstacle_is_all_that_is_said(make_tree, text, said):
    changes, problems = plan.make_plan(read_checkout(make_tree({"code.py": text.encode()})), vendor=False)
    assert not changes and len(problems) == 1 and said in problems[0].what
