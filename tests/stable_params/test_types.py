"""stable_params and a small client pass mypy --strict, and the client's errors are found: the types are real."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "tests/stable_params/typed_client.py"


def mypy(*files):
    """mypy --strict of files; its cache is kept in the project's folder."""
    return subprocess.run([sys.executable, "-m", "mypy", "--strict", *map(str, files)], cwd=ROOT, capture_output=True, text=True)


def test_library_and_client_are_typed(tmp_path):
    found = mypy(ROOT / "stable_params", CLIENT)
    assert found.returncode == 0, found.stdout
    wrong = tmp_path / "wrong_client.py"
    wrong.write_text(CLIENT.read_text() + "\n\nnumber: int = rate_and_draw(torch.zeros(1), torch.zeros(1))[0]\n")
    assert "Incompatible types in assignment" in mypy(wrong).stdout
