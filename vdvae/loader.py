"""Batches of training images for one rank: a fresh order each epoch, no image seen twice in it."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch.utils.data import DataLoader, DistributedSampler

from vdvae.datasets.images import ImageSet
from vdvae.distributed import World
from vdvae.hparams import Hparams

FILE_WORKERS = 2  # per rank, where images are decoded from files


class TrainLoader:
    """Iterate `epoch(k)` for the uint8 batches `[n_batch, H, W, 3]` of epoch k on this rank.

    All ranks walk through one permutation of the images, given by seed and epoch, in strides of the number of ranks, so
    the global batches do not depend on how many ranks share them. The incomplete batch at the end is left out.
    Raises ValueError when the images do not fill one batch of all ranks, and for num_workers with a set that is an array:
    each loader process would get a copy of it.
    """

    def __init__(self, images: ImageSet, hparams: Hparams, world: World):
        if len(images) < hparams.n_batch * world.size:
            raise ValueError(f"n_batch {hparams.n_batch} on {world.size} ranks needs {hparams.n_batch * world.size} training "
                             f"images at least, {hparams.dataset} has {len(images)}")
        self.sampler = _Sampler(images, world.size, world.rank, seed=hparams.seed, drop_last=True)
        workers = hparams.num_workers
        if workers and not images.decodes:
            raise ValueError(f"num_workers is {workers}, but {hparams.dataset} is an array, read faster without loader "
                             "processes: leave it out")
        if workers is None:
            workers = FILE_WORKERS if images.decodes else 0
        self.loader = DataLoader(
            images, hparams.n_batch, sampler=self.sampler, drop_last=True, collate_fn=_same, num_workers=workers,
            pin_memory=world.device.type == "cuda", persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,  # a fork would copy the state of MPI and CUDA
        )

        self.steps_per_epoch = len(self.loader)

    def epoch(self, number: int, first: int = 0) -> Iterator[torch.Tensor]:
        """The `steps_per_epoch` batches of one epoch, without the `first` ones of them, which are not loaded."""
        self.sampler.set_epoch(number)
        self.sampler.left_out = first * self.loader.batch_size
        return iter(self.loader)


class _Sampler(DistributedSampler):
    left_out = 0  # indices at the start of the epoch

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.left_out, None)


def _same(batch: torch.Tensor) -> torch.Tensor:
    """Images arrive from the set as one tensor already."""
    return batch
