"""The direction of imports: stable_params ← vdvae ← train.py, experiments, benchmarks; vdvae's rooms; log readers without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GLUE = ROOT / "patches" / "glue"  # text that is copied into checkouts: it belongs to them, not to patches
PROJECT = {"stable_params", "vdvae", "patches", "experiments", "benchmarks", "train", "tests"}
ALLOWED = {
    "stable_params": {"stable_params"},
    "vdvae": {"vdvae", "stable_params"},
    "patches": {"patches"},
    "experiments": {"experiments", "vdvae", "stable_params"},
    "benchmarks": {"benchmarks", "vdvae", "stable_params"},
}
ROOMS = ["data", "settings", "ranks", "records", "model", "step", "saving", "training", "tools"]


def imported_modules(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file; a name imported from a module counts too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported(path: Path) -> set[str]:
    """First parts of the names of all modules that a file imports."""
    return {name.split(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package):
    for path in set((ROOT / package).rglob("*.py")) - set(GLUE.glob("*.py")):
        assert imported(path) & PROJECT <= ALLOWED[package], path


def test_each_room_of_vdvae_imports_only_from_itself_and_from_rooms_before_it():
    folders = {path.name for path in (ROOT / "vdvae").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)
    for number, room in enumerate(ROOMS):
        for path in (ROOT / "vdvae" / room).rglob("*.py"):
            ours = {name for name in imported_modules(path) if name.split(".")[0] == "vdvae"}
            assert "vdvae" not in ours, f"{path} imports from vdvae itself, which is for users"
            assert {name.split(".")[1] for name in ours} <= set(ROOMS[: number + 1]), path


def test_stable_params_needs_torch_alone():
    for path in (ROOT / "stable_params").rglob("*.py"):
        foreign = imported(path) - set(sys.stdlib_module_names) - {"torch", "stable_params"}
        assert not foreign, f"{path} imports {foreign}"


def test_glue_needs_torch_and_stable_params_alone():
    for path in GLUE.glob("*.py"):
        foreign = imported(path) - set(sys.stdlib_module_names) - {"torch", "stable_params"}
        assert not foreign, f"{path} imports {foreign}"


@pytest.mark.parametrize("module", ["vdvae.inspect", "vdvae.compare"])
def test_log_readers_start_without_torch(module):
    program = f"import sys, {module}; sys.exit(int('torch' in sys.modules or 'mpi4py' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
