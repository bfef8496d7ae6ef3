"""The new files of a checkout: the glue and the copy of stable_params."""

from pathlib import Path

import pytest
from patches.problems import CheckoutError
from patches.tree.changes import glue_changes, vendor_changes

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("folder, prefix", [("", ""), ("src/model", "src/model/")])
def test_the_glue_is_copied_as_it_is(folder, prefix):
    made = {change.path: change.after for change in glue_changes(folder)}
    assert set(made) == {f"{prefix}stable_scales.py", f"{prefix}update_log.py"}
    assert made[f"{prefix}stable_scales.py"] == (ROOT / "patches/glue/stable_scales.py").read_bytes()


def test_all_of_stable_params_is_copied_with_the_licence(make_tree):
    changes = vendor_changes(make_tree({"a/b.py": b""}), "a")
    files = [path for path in (ROOT / "stable_params").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    copied = {f"a/stable_params/{path.relative_to(ROOT / 'stable_params')}": path.read_bytes() for path in files}
    copied["a/stable_params/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    assert {change.path: change.after for change in changes} == copied
    assert all(change.created for change in changes)


def test_the_mark_of_a_typed_package_is_copied_and_caches_are_not(make_tree):
    names = ["__init__.py", "py.typed", "sub/part.py", "__pycache__/a.pyc", "sub/__pycache__/b.pyc", ".mypy_cache/c.json",
             ".hidden"]
    project = make_tree({f"stable_params/{name}": b"" for name in names} | {"LICENSE": b""}, name="project")
    changes = vendor_changes(make_tree({"train.py": b""}), "", project)
    assert {change.path.removeprefix("stable_params/") for change in changes} == {
        "__init__.py", "py.typed", "sub/part.py", "LICENSE"}  # fmt: skip


@pytest.mark.parametrize("there", ["stable_params/__init__.py", "stable_params"])
def test_refused_where_there_is_one(make_tree, there):
    root = make_tree({there: b""})
    with pytest.raises(CheckoutError, match="would overwrite stable_params"):
        vendor_changes(root, "")


def test_refused_without_a_package_to_copy(make_tree):
    root = make_tree({"train.py": b"x = 1\n"})
    with pytest.raises(CheckoutError, match="copies .*stable_params, and there is no such package"):
        vendor_changes(root, "", project=root)
