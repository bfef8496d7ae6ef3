"""Golden splits, and small files in the formats that the loaders read."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def golden_splits() -> dict:
    return json.loads((TESTS / "golden" / "splits.json").read_text())


@pytest.fixture(scope="session")
def project() -> Path:
    return TESTS.parent


@pytest.fixture(scope="session")
def write_zeros():
    """write_zeros(path, shape) makes a .npy file of uint8 zeros that takes no room on disk, and returns it writable."""

    def write(path: Path, shape: tuple[int, ...]) -> np.memmap:
        return np.lib.format.open_memmap(path, "w+", np.uint8, shape)

    return write


@pytest.fixture
def write_flat(tmp_path):
    """write_flat(name, level, size) writes an image file of one grey level below tmp_path."""

    def write(name: str, level: int, size: tuple[int, int] = (4, 4)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (level, level, level)).save(path)
        return path

    return write
