"""The setup scripts, run on tiny local files."""

import hashlib
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from vdvae.data.splits import load_splits

SCRIPTS = ["setup_cifar10.sh", "setup_imagenet.sh", "setup_ffhq256.sh", "setup_ffhq1024.sh"]


@pytest.fixture
def run(project, tmp_path):
    """run(script, *arguments, **environment) in tmp_path, with captured output."""

    def run_script(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        command = ["bash", str(project / "run_scripts" / script), *map(str, arguments)]
        env = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    return run_script


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_syntax(run, project, script):
    subprocess.run(["bash", "-n", project / "run_scripts" / script], check=True)
    result = run(script, "--help")
    assert result.returncode == 0 and result.stdout.startswith(f"usage: {script}")
    assert os.access(project / "run_scripts" / script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS)
def test_too_many_arguments(run, tmp_path, script):
    result = run(script, "a", "b", "c", "d")
    assert result.returncode == 2 and "usage:" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def archive(tmp_path_factory):
    """A small archive as CIFAR-10's: (file URL, MD5)."""
    folder = tmp_path_factory.mktemp("origin")
    (folder / "cifar-10-batches-py").mkdir()
    (folder / "cifar-10-batches-py" / "test_batch").write_text("pixels")
    path = folder / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    return path, hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar10_is_downloaded_checked_and_unpacked(run, tmp_path, archive):
    path, md5 = archive
    result = run("setup_cifar10.sh", tmp_path / "data", CIFAR10_URL=path.as_uri(), CIFAR10_MD5=md5)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data" / "cifar-10-batches-py" / "test_batch").read_text() == "pixels"


def test_cifar10_archive_that_is_there_is_not_downloaded_again(run, tmp_path, archive):
    path, md5 = archive
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(path.read_bytes())
    result = run("setup_cifar10.sh", CIFAR10_URL="file:///nowhere", CIFAR10_MD5=md5)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "cifar-10-batches-py" / "test_batch").exists()


def test_cifar10_download_with_the_wrong_md5_is_removed(run, tmp_path, archive):
    result = run("setup_cifar10.sh", CIFAR10_URL=archive[0].as_uri())
    assert result.returncode == 1
    assert "does not have the MD5 c58f30108f718f92721af3b95e74349a" in result.stderr
    assert not list(tmp_path.iterdir())


def test_cifar10_archive_with_the_wrong_md5_is_kept_and_not_unpacked(run, tmp_path, archive):
    own = tmp_path / "cifar-10-python.tar.gz"
    own.write_bytes(archive[0].read_bytes())
    result = run("setup_cifar10.sh", CIFAR10_URL=archive[0].as_uri())
    assert result.returncode == 1 and "move it away" in result.stderr
    assert list(tmp_path.iterdir()) == [own]


def test_cifar10_failed_download_leaves_nothing(run, tmp_path):
    result = run("setup_cifar10.sh", CIFAR10_URL=(tmp_path / "nowhere").as_uri())
    assert result.returncode != 0 and not list(tmp_path.iterdir())


def test_imagenet_is_converted_to_what_the_loader_reads(run, tmp_path):
    (tmp_path / "npz").mkdir()
    for name, n in (("train_data_batch_1", 5_001), ("val_data", 2)):
        np.savez_compressed(tmp_path / "npz" / f"{name}.npz", data=np.full((n, 3072), n % 256, np.uint8))
    result = run("setup_imagenet.sh", "imagenet32", "npz")
    assert result.returncode == 0, result.stderr
    splits = load_splits("imagenet32", str(tmp_path), 32)
    assert [len(part) for part in splits] == [1, 5_000, 2] and splits.test[0].unique().tolist() == [2]


def test_imagenet_of_an_unknown_size(run):
    result = run("setup_imagenet.sh", "imagenet128", "npz")
    assert result.returncode == 2 and "unknown set 'imagenet128': choose imagenet32 or imagenet64" in result.stderr


def test_ffhq256_is_converted(run, tmp_path, write_flat):
    write_flat("faces/00000.png", 9, (256, 256)), write_flat("faces/00001.png", 8, (512, 512))
    result = run("setup_ffhq256.sh", "faces", "data")
    assert result.returncode == 0, result.stderr
    array = np.load(tmp_path / "data" / "ffhq-256.npy")
    assert array.shape == (2, 256, 256, 3) and array[:, 9, 9, 0].tolist() == [9, 8]


def test_ffhq1024_is_divided_by_number(run, tmp_path, write_flat):
    for name in ("00000/00000", "00000/00008", "59000/59999", "60000/60000", "69000/69999"):
        write_flat(f"data/images1024x1024/{name}.png", 7)
    for _ in range(2):  # running it again changes nothing
        result = run("setup_ffhq1024.sh", "data")
        assert result.returncode == 0, result.stderr
    assert "FFHQ has 70000 images, found 5" in result.stderr
    splits = load_splits("ffhq_1024", str(tmp_path / "data"), 1024)
    assert [path.name for path in splits.train.paths] == ["00000.png", "00008.png", "59999.png"]
    assert [path.name for path in splits.valid.paths] == ["60000.png", "69999.png"]
    assert splits.valid[0].unique().tolist() == [7]


@pytest.mark.parametrize(("names", "message"), [([], "images1024x1024 is missing"), (["00001"], "both are needed")])
def test_ffhq1024_without_the_images(run, tmp_path, write_flat, names, message):
    for name in names:
        write_flat(f"images1024x1024/{name}.png", 7)
    result = run("setup_ffhq1024.sh")
    assert result.returncode == 1 and message in result.stderr
    assert not (tmp_path / "ffhq1024").exists()
