"""CIFAR-10 from the files of cifar-10-python.tar.gz, with the original VDVAE's split of the training images."""

import pickle
from pathlib import Path

import numpy as np

from vdvae.data.files import require
from vdvae.data.images import ArrayImages, Splits

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = [f"data_batch_{i}" for i in range(1, 6)]
IMAGES_PER_FILE = 10_000
VALID_IMAGES = 5_000
SPLIT_SEED = 11172018

# The three callables that the pickle of a numpy array names, under the module names of old and new numpy.
_REBUILD_ARRAY = np.empty(0).__reduce__()[0]
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _REBUILD_ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _REBUILD_ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
_MALFORMED = (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


def load_cifar10(root: Path) -> Splits:
    """45,000 train, 5,000 valid and 10,000 test images, uint8 [32, 32, 3], resident in memory.

    Raises FileNotFoundError for a missing file, ValueError naming the file for a malformed one or one with code in it.
    """
    how = f"run_scripts/setup_cifar10.sh {root} gets it"
    train_paths = [require(root / FOLDER / name, root, how) for name in TRAIN_FILES]
    test_path = require(root / FOLDER / "test_batch", root, how)
    train = read_batches(train_paths)
    train_indices, valid_indices = train_valid_indices(len(train))
    test = ArrayImages(read_batches([test_path]))
    return Splits(ArrayImages(train, train_indices), ArrayImages(train, valid_indices), test)


def train_valid_indices(n: int, n_valid: int = VALID_IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """(train, valid) int64 indices of `n` images in file order, those of scikit-learn's train_test_split(test_size=n_valid,
    random_state=11172018)."""
    order = np.random.RandomState(SPLIT_SEED).permutation(n)
    return order[n_valid:], order[:n_valid]


def read_batches(paths: list[Path]) -> np.ndarray:
    """Images of several batch files, one after the other: uint8 [10000 * files, 32, 32, 3]."""
    images = np.empty((len(paths), IMAGES_PER_FILE, 32, 32, 3), dtype=np.uint8)
    for destination, path in zip(images, paths):
        destination[:] = read_batch(path).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images.reshape(-1, 32, 32, 3)


def read_batch(path: Path) -> np.ndarray:
    """The `data` of one batch file as stored, uint8 [10000, 3072]; ValueError naming the file for anything else."""
    content = unpickle(path)
    if not isinstance(content, dict) or not isinstance(content.get(b"data"), np.ndarray):
        raise ValueError(f"{path} must hold a dict with an array under b'data', found {type(content).__name__}")
    data = content[b"data"]
    if data.dtype != np.uint8 or data.shape != (IMAGES_PER_FILE, 3072):
        raise ValueError(f"{path} must hold uint8 [{IMAGES_PER_FILE}, 3072], found {data.dtype} {list(data.shape)}")
    return data


def unpickle(path: Path) -> object:
    """The content of a Python 2 pickle of plain containers and numpy arrays; nothing else is imported or called.

    Raises ValueError naming the file when it is truncated, is no pickle or asks for any other callable.
    """
    with open(path, "rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="bytes").load()
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path} is refused: {error}") from error
        except _MALFORMED as error:
            raise ValueError(f"{path} is truncated or not a pickle: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}; only numpy arrays are admitted")
        return _ADMITTED[module, name]
