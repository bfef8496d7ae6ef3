"""Rewrites run one after another, and everything that could not be matched is collected."""

import libcst as cst
import libcst.matchers as m
import pytest

from patches import plan
from patches.problems import CannotPatch, Problem
from patches.tree.checkout import read_checkout


def renames(old, new):
    """A rewrite that renames in every module that has the name."""

    def rewrite(sources):
        found = {path: m.findall(module, m.Name(old)) for path, module in sources.items()}
        return {path: m.replace(sources[path], m.Name(old), cst.Name(new)) for path, names in found.items() if names}

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
        made = plan.make_plan(read_checkout(make_tree(files)), vendor)
        new = [change.path for change in made.changes if change.created]
        return [change for change in made.changes if not change.created], made.problems, new

    return run


def test_each_works_on_the_result_of_the_one_before(planned):
    changes, problems, _ = planned({"vae.py": b"a = 1\n", "other.py": b"x = 1\n"}, renames("a", "b"), renames("b", "c"))
    assert [(change.path, change.before, change.after) for change in changes] == [("vae.py", b"a = 1\n", b"c = 1\n")]
    assert changes[0].description == "rewrite 0; rewrite 1" and problems == []


def test_all_problems_are_collected_once(planned):
    changes, problems, _ = planned({"vae.py": b"a = 1\n"}, cannot(1, 2), renames("a", "b"), cannot(2, 3))
    assert [problem.line for problem in problems] == [1, 2, 3]
    assert [change.after for change in changes] == [b"b = 1\n"]


def test_the_rewrites_of_the_plugin():
    modules = [rewrite.__module__ for rewrite in plan.REWRITES.values()]
    assert modules == ["patches.rewrites.latents", "patches.rewrites.flags", "patches.rewrites.counts"]


@pytest.mark.parametrize("before", [b"\x0ca = 1\nx = a\n", b"x = a\n\n   \n# end\n   "])
def test_a_file_that_the_syntax_tree_does_not_print_in_full_is_refused(planned, before):
    changes, problems, _ = planned({"vae.py": before, "other.py": b"a = 1\n"}, renames("a", "b"))
    assert [change.path for change in changes] == ["other.py"]
    assert [(problem.path, "form feeds" in problem.what) for problem in problems] == [("vae.py", True)]


def test_such_a_file_is_no_problem_where_nothing_changes(planned):
    changes, problems, _ = planned({"vae.py": b"\x0cx = 1\n", "other.py": b"a = 1\n"}, renames("a", "b"))
    assert [change.path for change in changes] == ["other.py"] and problems == []


def test_a_rewrite_that_breaks_the_code_is_a_problem(planned):
    changes, problems, _ = planned({"vae.py": b"x = 1\ny = a\n"}, renames("a", "class"))
    assert changes == [] and [(problem.line, problem.code) for problem in problems] == [(2, "y = class")]


def test_new_files_with_and_without_stable_params(planned):
    _, _, alone = planned({"model/vae.py": b"a = 1\n"}, renames("a", "b"))
    assert alone == ["model/stable_scales.py", "model/update_log.py"]
    _, _, vendored = planned({"model/vae.py": b"a = 1\n"}, renames("a", "b"), vendor=True)
    assert vendored[:2] == alone and "model/stable_params/__init__.py" in vendored
