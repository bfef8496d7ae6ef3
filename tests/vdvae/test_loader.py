"""Training batches: a new order each epoch, each image once, the same global batches for any number of ranks."""

import numpy as np
import pytest

from vdvae.datasets.images import ArrayImages
from vdvae.distributed import World
from vdvae.loader import TrainLoader


@pytest.fixture()
def images() -> ArrayImages:
    """Twenty images, each filled with its own index."""
    return ArrayImages(np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 8, 8, 3)).copy())


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
    with pytest.raises(ValueError, match="num_workers is 2, but cifar10 is an array"):
        TrainLoader(images, small_hparams("--n_batch", 5, "--num_workers", 2), World())
