"""Rewrites run one after another, and everything that could not be matched is gathered."""

import libcst as cst
import libcst.matchers as m
import pytest
from patches.tree.checkout import read_checkout
from patches.plan import REWRITES, new_files, plan, to_changes
from patches.sources import CannotPatch, Problem


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


def sources(**texts):
    return {f"{name}.py": cst.parse_module(text) for name, text in texts.items()}


def test_each_works_on_the_result_of_the_one_before():
    planned = plan(sources(vae="a = 1\n", other="x = 1\n"), [renames("a", "b"), renames("b", "c")])
    assert {path: module.code for path, module in planned.modules.items()} == {"vae.py": "c = 1\n"}
    assert [len(reasons) for reasons in planned.reasons.values()] == [2] and planned.problems == ()


def test_all_problems_are_gathered_once():
    planned = plan(sources(vae="a = 1\n"), [cannot(1, 2), renames("a", "b"), cannot(2, 3)])
    assert [problem.line for problem in planned.problems] == [1, 2, 3]
    assert planned.modules["vae.py"].code == "b = 1\n"


def test_what_is_changed_back_is_no_change():
    planned = plan(sources(vae="a = 1\n"), [renames("a", "b"), renames("b", "a")])
    assert planned.modules == {} and planned.reasons == {}


def test_the_rewrites_of_the_plugin_say_what_they_do():
    modules = [rewrite.__module__ for rewrite in REWRITES]
    assert modules == ["patches.rewrites.latents", "patches.rewrites.flags", "patches.rewrites.counts"]


LOST = [(b"\x0ca = 1\nx = a\n", None), (b"\x0cx = 1\ny = a\n", b"\x0cx = 1\ny = b\n")]


@pytest.mark.parametrize("before, after", LOST)
def test_characters_that_the_syntax_tree_loses(make_tree, before, after):
    checkout = read_checkout(make_tree({"vae.py": before}))
    changes, problems = to_changes(checkout, plan(checkout.sources, [renames("a", "b")]))
    assert [change.after for change in changes] == ([] if after is None else [after])
    assert [problem.path for problem in problems] == (["vae.py"] if after is None else [])


def test_a_rewrite_that_breaks_the_code_is_a_problem(make_tree):
    checkout = read_checkout(make_tree({"vae.py": b"x = 1\ny = a\n"}))
    changes, problems = to_changes(checkout, plan(checkout.sources, [renames("a", "class")]))
    assert changes == [] and [(problem.line, problem.code) for problem in problems] == [(2, "y = class")]


def test_new_files_with_and_without_stable_params(make_tree):
    checkout = read_checkout(make_tree({"a/vae.py": b"x = 1\n"}))
    alone = [change.path for change in new_files(checkout, "a", vendor=False)]
    assert alone == ["a/stable_scales.py", "a/update_log.py"]
    assert "a/stable_params/__init__.py" in [change.path for change in new_files(checkout, "a", vendor=True)]
