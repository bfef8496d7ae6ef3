"""Fixtures that write small checkouts and read all their bytes."""

import pytest


@pytest.fixture()
def make_tree(tmp_path):
    """Write files, by relative path, below a new folder and return it: `make_tree({"vae.py": b"x = 1\\n"})`."""

    def make(files, name="fork"):
        root = tmp_path / name
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    return make


@pytest.fixture(scope="session")
def snapshot():
    """Every path below a folder with its mode and bytes; .git left out."""

    def take(root):
        paths = [path for path in sorted(root.rglob("*")) if ".git" not in path.relative_to(root).parts]
        return {str(path.relative_to(root)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
                for path in paths}

    return take
