"""What load_splits checks before it reads anything."""

import pytest

from vdvae.data.images import Splits
from vdvae.data.spec import DATASETS
from vdvae.data.splits import load_splits


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown dataset 'cifar100': choose from cifar10, imagenet32"):
        load_splits("cifar100", ".", 32)


@pytest.mark.parametrize("name", [name for name, spec in DATASETS.items() if spec.image_size])
def test_size_that_the_set_does_not_have(name):
    with pytest.raises(ValueError, match=f"{name} has images of size {DATASETS[name].image_size}, not 48"):
        load_splits(name, ".", 48)


@pytest.mark.parametrize("name", DATASETS)
def test_every_name_has_a_loader(tmp_path, name):
    bundled = name.startswith("photos32")
    if bundled:
        assert isinstance(load_splits(name, str(tmp_path), 32), Splits)
    else:
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            load_splits(name, str(tmp_path), DATASETS[name].image_size or 8)


def test_folder_needs_a_positive_size():
    with pytest.raises(ValueError, match="at least 1 for dataset folder, got 0"):
        load_splits("folder", ".", 0)


@pytest.mark.parametrize(
    ("name", "file", "script"),
    [
        ("cifar10", "data_batch_1", "setup_cifar10.sh"),
        ("imagenet32", "imagenet32-train.npy", "setup_imagenet.sh imagenet32"),
        ("imagenet64", "imagenet64-train.npy", "setup_imagenet.sh imagenet64"),
        ("mnist", "mnist.npz", "setup_mnist.sh"),
        ("ffhq_256", "ffhq-256.npy", "setup_ffhq256.sh"),
        ("ffhq_1024", "ffhq1024/train", "setup_ffhq1024.sh"),
    ],
)
def test_missing_data_names_file_root_and_script(tmp_path, project, name, file, script):
    with pytest.raises(FileNotFoundError) as error:
        load_splits(name, str(tmp_path), DATASETS[name].image_size)
    for part in (file, f"data_root is {tmp_path}", f"run_scripts/{script}"):
        assert part in str(error.value)
    assert (project / "run_scripts" / script.split()[0]).exists()


def test_missing_folder_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder: .*\.png, \.jpg, \.jpeg"):
        load_splits("folder", str(tmp_path / "nowhere"), 8)
