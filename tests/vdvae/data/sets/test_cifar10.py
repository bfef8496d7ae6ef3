"""CIFAR-10's split, its file format, and files that must be refused."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from vdvae.data.sets.cifar10 import read_batch, train_valid_indices, unpickle
from vdvae.data.splits import load_splits

NAMES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]


def python2_array(array: np.ndarray, module: str) -> bytes:
    """Opcodes, protocol 2, of a C-ordered uint8 array as Python 2's numpy wrote them (byte strings, not text)."""
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    data = b"T" + struct.pack("<i", array.nbytes) + array.tobytes()
    rebuild = b"c" + module.encode() + b".multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return rebuild + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def batch_file(data: np.ndarray, module: str = "numpy.core") -> bytes:
    return b"\x80\x02}U\x04data" + python2_array(data, module) + b"s."


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """All six files; the first two values of image i of the training set are i // 256 and i % 256."""
    root = tmp_path_factory.mktemp("cifar10")
    (root / "cifar-10-batches-py").mkdir()
    for k, name in enumerate(NAMES):
        data = np.zeros((10_000, 3072), np.uint8)
        numbers = np.arange(10_000) + 10_000 * k
        data[:, 0], data[:, 1] = numbers // 256, numbers % 256
        data[:, 1024], data[:, 2048 + 32] = 101, 202
        (root / "cifar-10-batches-py" / name).write_bytes(batch_file(data))
    return root


def numbers(images) -> list[int]:
    first = images.__getitems__(list(range(8))).numpy().astype(int)
    return list(first[:, 0, 0, 0] * 256 + first[:, 0, 1, 0])


def test_loads_the_golden_split_of_real_sized_files(data_root, golden_splits):
    golden = golden_splits["cifar10_split"]
    splits = load_splits("cifar10", str(data_root), 32)
    assert [len(part) for part in splits] == [45_000, 5_000, 10_000]
    assert numbers(splits.train) == golden["first_train"]
    assert numbers(splits.valid) == golden["first_valid"]
    assert numbers(splits.test) == list(range(50_000, 50_008))
    assert splits.train.array is splits.valid.array


def test_stored_planes_become_channels(data_root):
    image = load_splits("cifar10", str(data_root), 32).test[0]
    assert image.shape == (32, 32, 3)
    assert image[0, 0, 1] == 101 and image[1, 0, 2] == 202 and int(image[:, :, 1:].sum()) == 303


def test_split_is_the_published_one(golden_splits):
    golden = golden_splits["cifar10_split"]
    train, valid = train_valid_indices(50_000)
    assert hashlib.sha256(train.astype("<i8").tobytes()).hexdigest() == golden["sha256_train_int64"]
    assert hashlib.sha256(valid.astype("<i8").tobytes()).hexdigest() == golden["sha256_valid_int64"]


@pytest.mark.parametrize(("n", "n_valid"), [(10, 3), (101, 20), (6000, 5000)])
def test_split_is_that_of_scikit_learn(n, n_valid):
    expected = train_test_split(np.arange(n), test_size=n_valid, random_state=11172018)
    for ours, theirs in zip(train_valid_indices(n, n_valid), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_arrays_of_old_and_new_numpy_are_admitted(tmp_path, module):
    data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (tmp_path / "file").write_bytes(batch_file(data, module))
    np.testing.assert_array_equal(unpickle(tmp_path / "file")[b"data"], data)


class Touch:
    """Unpickling it would create the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    bad, created = tmp_path / "data_batch_1", tmp_path / "created"
    bad.write_bytes(pickle.dumps({"data": Touch(created)}, protocol=2))
    with pytest.raises(ValueError, match=r"data_batch_1 is refused: it names \w+\.open; only numpy arrays"):
        unpickle(bad)
    assert not created.exists()
    pickle.loads(bad.read_bytes())["data"].close()
    assert created.exists(), "the pickle was harmless, so the test showed nothing"


def test_code_behind_an_admitted_module_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"\x80\x02cnumpy\nload\n.")
    with pytest.raises(ValueError, match="names numpy.load"):
        unpickle(tmp_path / "file")


@pytest.mark.parametrize("keep", [0, 1, 20, 100, -1])
def test_truncated_file(tmp_path, keep):
    whole = batch_file(np.zeros((10_000, 3072), np.uint8))
    (tmp_path / "data_batch_3").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match="data_batch_3 is (truncated or not a pickle|refused)"):
        read_batch(tmp_path / "data_batch_3")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({b"data": np.zeros((9_999, 3072), np.uint8)}, r"found uint8 \[9999, 3072\]"),
        ({b"data": np.zeros((10_000, 3), np.uint8)}, r"found uint8 \[10000, 3\]"),
        ({b"data": np.zeros((10_000, 3072), np.int8)}, r"found int8 \[10000, 3072\]"),
        ({b"data": [1, 2]}, "found dict"),
        ({}, "found dict"),
        ([1, 2], "found list"),
    ],
)
def test_wrong_content(tmp_path, monkeypatch, content, found):
    monkeypatch.setattr("vdvae.data.sets.cifar10.unpickle", lambda path: content)
    with pytest.raises(ValueError, match=f"data_batch_2 must hold .*{found}"):
        read_batch(tmp_path / "data_batch_2")


def test_missing_file_names_file_root_and_script(tmp_path, data_root):
    with pytest.raises(FileNotFoundError) as error:
        load_splits("cifar10", str(tmp_path), 32)
    for part in ("data_batch_1", f"data_root is {tmp_path}", "run_scripts/setup_cifar10.sh"):
        assert part in str(error.value)
