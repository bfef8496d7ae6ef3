"""The new files of a checkout: the glue and the copy of stable_params."""

import subprocess
import sys
from pathlib import Path

import pytest
from patches.tree.apply import write_changes
from patches.tree.errors import CheckoutError
from patches.tree.vendor import glue_changes, vendor_changes

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("folder, prefix", [("", ""), ("src/model", "src/model/")])
def test_the_glue_is_copied_as_it_is(folder, prefix):
    made = {change.path: change.after for change in glue_changes(folder)}
    assert set(made) == {f"{prefix}stable_scales.py", f"{prefix}update_log.py"}
    assert made[f"{prefix}stable_scales.py"] == (ROOT / "patches/glue/stable_scales.py").read_bytes()


def test_all_of_stable_params_is_copied_with_the_licence(make_tree):
    changes = vendor_changes(make_tree({"a/b.py": b""}), "a")
    code = {f"a/stable_params/{path.name}": path.read_bytes() for path in (ROOT / "stable_params").glob("*.py")}
    assert code.items() <= {change.path: change.after for change in changes}.items()
    assert {change.path for change in changes} - set(code) == {"a/stable_params/README.md", "a/stable_params/LICENSE"}
    assert all(change.created for change in changes)


def test_the_copy_works_alone(make_tree):
    root = make_tree({"train.py": b"x = 1\n"})
    write_changes(root, vendor_changes(root, ""))
    program = "import stable_params; print(stable_params.__file__, stable_params.parse_parameterization('explin').flag)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, env={"PYTHONPATH": ""}, capture_output=True, text=True)
    assert done.stdout.split() == [str(root / "stable_params/__init__.py"), "explin"], done.stderr


@pytest.mark.parametrize("there", ["stable_params/__init__.py", "stable_params"])
def test_refused_where_there_is_one(make_tree, there):
    root = make_tree({there: b""})
    with pytest.raises(CheckoutError, match="would overwrite stable_params"):
        vendor_changes(root, "")


def test_refused_without_a_package_to_copy(make_tree):
    root = make_tree({"train.py": b"x = 1\n"})
    with pytest.raises(CheckoutError, match="lacks .*stable_params/__init__.py"):
        vendor_changes(root, "", project=root)
