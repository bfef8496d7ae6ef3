"""MNIST from the two places that offer it, on small files in their formats; other files are refused."""

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vdvae.data.sets import mnist
from vdvae.data.splits import load_splits

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = ROOT / "run_scripts" / "setup_mnist.sh"


@pytest.fixture()
def images(monkeypatch):
    """Five, two and three images in place of MNIST's, whose SHA-256 the module expects while the test runs."""
    levels = np.random.default_rng(0).integers(0, 256, (10, 784), dtype=np.uint8)
    small = mnist.Mnist(levels[:5], levels[5:7], levels[7:])
    monkeypatch.setattr(mnist, "TRAIN_IMAGES", 5)
    monkeypatch.setattr(mnist, "SHA256", {name: hashlib.sha256(part).hexdigest()
                                          for name, part in small._asdict().items()})
    return small


def idx(levels: np.ndarray, magic: int = 2051) -> bytes:
    header = b"".join(number.to_bytes(4, "big") for number in (magic, len(levels), 28, 28))
    return gzip.compress(header + levels.tobytes())


def parts(images: mnist.Mnist, grey: float = 256) -> tuple:
    """What the pickle in the wheel holds: (images as float32, labels) of each part."""
    return tuple(((part / grey).astype(np.float32), np.zeros(len(part), np.int64)) for part in images)


@pytest.fixture()
def write_wheel(tmp_path):
    """write_wheel(content) makes a wheel with that object in the place of the images."""

    def write(content: object) -> Path:
        path = tmp_path / "mnist.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(mnist.PICKLE, gzip.compress(pickle.dumps(content, protocol=4)))
        return path

    return write


def write_idx(folder: Path, images: mnist.Mnist) -> tuple[Path, Path]:
    train, test = folder / "train.gz", folder / "test.gz"
    train.write_bytes(idx(np.concatenate([images.train, images.valid])))
    test.write_bytes(idx(images.test))
    return train, test


def assert_same(found: mnist.Mnist, expected: mnist.Mnist) -> None:
    for part, other in zip(found, expected, strict=True):
        assert part.dtype == np.uint8 and np.array_equal(part, other)


def test_both_sources_give_the_split_images(images, tmp_path, write_wheel, capsys):
    commands = [["idx", *map(str, write_idx(tmp_path, images))], ["wheel", str(write_wheel(parts(images)))]]
    for number, command in enumerate(commands):
        assert mnist.main([*command, str(tmp_path / f"{number}")]) == 0
        assert "5 train, 2 valid, 3 test" in capsys.readouterr().out
        assert_same(mnist.read_mnist(tmp_path / f"{number}"), images)
        assert [path.name for path in (tmp_path / f"{number}").iterdir()] == ["mnist.npz"]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.0, -1 / 256, 5.5 / 256])
def test_the_wheel_s_floats_must_be_those_of_the_images(images, write_wheel, bad):
    with pytest.raises(ValueError, match="images of train have the SHA-256"):
        mnist.images_from_wheel(write_wheel(parts(images, grey=255)))
    content = parts(images)
    content[2][0][1] = bad
    with pytest.raises(ValueError, match="images of test have the SHA-256"):
        mnist.images_from_wheel(write_wheel(content))


class RunsCode:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_the_code_not_run(images, tmp_path, write_wheel, capsys):
    wheel = write_wheel((RunsCode(tmp_path / "made by the pickle"), *parts(images)[1:]))
    assert mnist.main(["wheel", str(wheel), str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "mkdir" in error and str(wheel) in error
    assert not (tmp_path / "made by the pickle").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [7, (), "text", ((1, 2), (3, 4), (5, 6)), [np.zeros(3)] * 3])
def test_a_pickle_of_something_else_is_refused(images, write_wheel, content):
    with pytest.raises(ValueError, match="mnist.whl"):
        mnist.images_from_wheel(write_wheel(content))


def test_a_wheel_without_the_pickle_or_cut_off_is_refused(images, tmp_path, write_wheel):
    empty = tmp_path / "empty.whl"
    zipfile.ZipFile(empty, "w").close()
    whole = write_wheel(parts(images)).read_bytes()
    (tmp_path / "cut.whl").write_bytes(whole[:len(whole) // 2])
    for path in (empty, tmp_path / "cut.whl"):
        with pytest.raises(ValueError, match=f"{path.name} has no usable"):
            mnist.images_from_wheel(path)


def test_images_with_another_sha_are_refused_and_nothing_is_written(images, tmp_path, capsys):
    train, test = write_idx(tmp_path, images._replace(test=images.test ^ 1))
    assert mnist.main(["idx", str(train), str(test), str(tmp_path / "data")]) == 2
    assert "images of test have the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_idx_files_that_are_something_else_are_refused(images, tmp_path):
    whole, path = idx(images.test), tmp_path / "file.gz"
    unzipped = gzip.decompress(whole)
    for content in (whole[:-20], unzipped, b"", idx(images.test, magic=2049), gzip.compress(unzipped[:-1]),
                    gzip.compress(b"12")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="file.gz"):
            mnist.read_idx(path)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_bad_npz_is_refused_by_name(images, tmp_path):
    whole = images._asdict()
    bad = [npz(**whole)[:2000], b"", b"no zip", npz(train=images.train), npz(**{**whole, "valid": images.test}),
           npz(**{**whole, "test": images.test.astype(np.int64)}),
           npz(**{**whole, "test": np.array([RunsCode(tmp_path / "made")], dtype=object)})]
    for content in bad:
        (tmp_path / "mnist.npz").write_bytes(content)
        with pytest.raises(ValueError, match="mnist.npz"):
            mnist.read_mnist(tmp_path)
    assert not (tmp_path / "made").exists()


def test_the_data_set_has_the_images_of_the_file_in_one_channel(images, tmp_path):
    mnist.save_mnist(images, tmp_path)
    splits = load_splits("mnist", str(tmp_path), 28)
    assert [len(part) for part in splits] == [5, 2, 3] and splits.train.image_shape == (28, 28, 1) and splits.train.bits == 8
    assert np.array_equal(splits.valid[1].reshape(784), images.valid[1])


def test_missing_data_names_the_script(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"run_scripts/setup_mnist.sh {tmp_path}"):
        mnist.read_mnist(tmp_path)


def setup(*arguments: object, **environment: object) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHON": sys.executable, "MNIST_MIRRORS": "", **{k: str(v) for k, v in environment.items()}}
    return subprocess.run(["bash", SCRIPT, *map(str, arguments)], env=env, capture_output=True, text=True)


def test_script_says_how_it_is_used():
    assert setup("--help").stdout.startswith("usage: setup_mnist.sh") and os.access(SCRIPT, os.X_OK)
    refused = setup("a", "b")
    assert refused.returncode == 2 and "usage:" in refused.stderr


def test_script_refuses_files_with_another_sha(tmp_path):
    other, target = tmp_path / "other.whl", tmp_path / "data"
    other.write_text("not the wheel")
    refused = setup(target, MNIST_WHEEL=other)
    assert refused.returncode == 1 and "does not have the SHA-256" in refused.stderr
    assert not list(target.iterdir())


def test_script_keeps_own_files_with_another_sha(tmp_path):
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (tmp_path / name).write_text("own")
    refused = setup(tmp_path)
    assert refused.returncode == 1 and "train-images-idx3-ubyte.gz does not have the SHA-256" in refused.stderr
    assert len(list(tmp_path.iterdir())) == 2


def test_script_passes_over_a_mirror_with_other_files_and_leaves_nothing_when_all_fail(tmp_path):
    mirror, target = tmp_path / "mirror", tmp_path / "data"
    mirror.mkdir()
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (mirror / name).write_text("something else")
    refused = setup(target, MNIST_MIRRORS=mirror.as_uri(), PYTHON="/bin/false")
    assert refused.returncode != 0 and "does not have the SHA-256" in refused.stderr
    assert "no mirror has the files" in refused.stdout and not list(target.iterdir())
