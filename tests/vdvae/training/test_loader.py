"""Training batches: a new order each epoch, each image once, the same global batches for any number of ranks."""

import numpy as np
import pytest
import torch

from vdvae.data.images import ArrayImages
from vdvae.ranks.distributed import World
from vdvae.training.loader import TrainLoader


@pytest.fixture()
def images() -> ArrayImages:
    """Twenty images, each filled with its own index."""
    return ArrayImages(np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 8, 8, 3)).copy())


@pytest.fixture(params=["resident", "loaded"], autouse=True)
def kind(request, monkeypatch):
    """Every test with a set that is small enough to stay on the device, and with the same set when it is not."""
    if request.param == "loaded":
        monkeypatch.setattr("vdvae.training.loader.RESIDENT_BYTES", 0)
    return request.param


def indices(loader: TrainLoader, epoch: int) -> list[list[int]]:
    return [batch[:, 0, 0, 0].tolist() for batch in loader.epoch(epoch)]


def test_each_image_once_an_epoch_in_a_new_order(images, small_hparams):
    loader = TrainLoader(images, small_hparams("--n_batch", 5), World())
    first, second = indices(loader, 0), indices(loader, 1)
    assert [len(batch) for batch in first] == [5] * 4 == [5] * loader.steps_per_epoch
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(20))
    assert first != second and indices(loader, 0) == first
    assert indices(TrainLoader(images, small_hparams("--n_batch", 5, "--seed", 1), World()), 0) != first


def test_global_batches_do_not_depend_on_the_ranks(images, small_hparams):
    alone = indices(TrainLoader(images, small_hparams("--n_batch", 8), World()), 3)
    both = [indices(TrainLoader(images, small_hparams("--n_batch", 4), World(rank, 2)), 3) for rank in (0, 1)]
    assert len(alone) == 2
    assert [sorted(batch) for batch in alone] == [sorted(a + b) for a, b in zip(*both)]


def test_the_incomplete_batch_is_left_out(images, small_hparams):
    batches = indices(TrainLoader(images, small_hparams("--n_batch", 6), World()), 0)
    assert [len(batch) for batch in batches] == [6, 6, 6] and len(set(sum(batches, []))) == 18


def test_too_few_images_for_the_ranks(images, small_hparams):
    with pytest.raises(ValueError, match="n_batch 16 on 2 ranks needs 32.*has 20"):
        TrainLoader(images, small_hparams("--n_batch", 16), World(0, 2))


def test_loader_processes_for_an_array_are_refused(images, small_hparams):
    with pytest.raises(ValueError, match="num_workers is 2, but cifar10 is an array in memory"):
        TrainLoader(images, small_hparams("--n_batch", 5, "--num_workers", 2), World())


def test_an_epoch_taken_up_in_the_middle_and_part_of_an_array(images, small_hparams):
    some = ArrayImages(images.array, np.array([19, 3, 5, 7, 11, 2, 13, 17]))
    loader = TrainLoader(some, small_hparams("--n_batch", 3), World())
    whole = indices(loader, 2)
    assert len(whole) == 2 and set(sum(whole, [])) < {19, 3, 5, 7, 11, 2, 13, 17}
    assert [batch[:, 0, 0, 0].tolist() for batch in loader.epoch(2, first=1)] == whole[1:]


def test_resident_and_loaded_batches_are_the_same(images, small_hparams, monkeypatch):
    batches = []
    for limit in (0, 2**31):
        monkeypatch.setattr("vdvae.training.loader.RESIDENT_BYTES", limit)
        batches.append(torch.stack(list(TrainLoader(images, small_hparams("--n_batch", 4), World(1, 2)).epoch(5))))
    assert batches[0].dtype == torch.uint8 and torch.equal(*batches)


def test_a_file_too_large_to_reside_comes_through_loader_processes(kind, small_hparams, tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (20, 8, 8, 3))
    file[:] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    file.flush()
    mapped = ArrayImages(np.lib.format.open_memmap(tmp_path / "images.npy", "r"), np.arange(2, 20))
    hparams = small_hparams("--n_batch", 4, "--num_workers", 1)
    if kind == "resident":
        with pytest.raises(ValueError, match="num_workers is 1"):
            TrainLoader(mapped, hparams, World())
    else:
        loader = TrainLoader(mapped, hparams, World())
        assert loader.loader.num_workers == 1
        assert indices(loader, 0) == indices(TrainLoader(mapped, small_hparams("--n_batch", 4), World()), 0)
