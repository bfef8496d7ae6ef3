"""The edits of all rewrites come together, and everything that could not be matched is collected."""

import ast

import pytest

from patches import plan
from patches.problems import CannotPatch, Problem
from patches.tree.checkout import read_checkout


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
