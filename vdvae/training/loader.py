"""Batches of training images for one rank: a fresh order each epoch, no image seen twice in it."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch.utils.data import DataLoader, DistributedSampler

from vdvae.data.images import ArrayImages, ImageSet
from vdvae.ranks.distributed import World
from vdvae.settings.hparams import Hparams
from vdvae.training.resident import ResidentImages, can_reside

FILE_WORKERS = 2  # per rank, where images are read from files


class TrainLoader:
    """Iterate `epoch(k)` for the uint8 batches `[n_batch, H, W, 3]` of epoch k on this rank.

    All ranks walk through one permutation of the images, given by seed and epoch, in strides of the number of ranks, so
    the global batches do not depend on how many ranks share them. The incomplete batch at the end is left out.
    A set that can reside stays on the device; a larger array that is mapped from a file, and files that are decoded, are
    read by loader processes into pinned memory.
    Raises ValueError when the images do not fill one batch of all ranks, and for num_workers with a set that resides or is
    an array in memory: each loader process would get a copy of it.
    """

    def __init__(self, images: ImageSet, hparams: Hparams, world: World):
        if len(images) < hparams.n_batch * world.size:
            raise ValueError(f"n_batch {hparams.n_batch} on {world.size} ranks needs {hparams.n_batch * world.size} training "
                             f"images at least, {hparams.dataset} has {len(images)}")
        self.sampler = _Sampler(images, world.size, world.rank, seed=hparams.seed, drop_last=True)
        self.n_batch = hparams.n_batch
        self.steps_per_epoch = len(self.sampler) // self.n_batch
        from_files = images.decodes or (isinstance(images, ArrayImages) and images.is_mapped and not can_reside(images))
        if hparams.num_workers and not from_files:
            raise ValueError(f"num_workers is {hparams.num_workers}, but {hparams.dataset} is an array in memory, read faster "
                             "without loader processes: leave it out")
        self.resident = ResidentImages(images, world.device) if can_reside(images) else None
        self.loader = None if self.resident else _make_loader(images, self.sampler, hparams, world, from_files)

    def epoch(self, number: int, first: int = 0) -> Iterator[torch.Tensor]:
        """The `steps_per_epoch` batches of one epoch, without the `first` ones of them, which are not loaded."""
        self.sampler.set_epoch(number)
        self.sampler.left_out = first * self.n_batch
        return self.resident.batches(list(self.sampler), self.n_batch) if self.resident else iter(self.loader)


def _make_loader(images: ImageSet, sampler: "_Sampler", hparams: Hparams, world: World, from_files: bool) -> DataLoader:
    on_cuda = world.device.type == "cuda"
    workers = hparams.num_workers
    if workers is None:  # a CPU maps as fast itself, and needs its cores for training
        workers = FILE_WORKERS if images.decodes or (from_files and on_cuda) else 0
    return DataLoader(
        images, hparams.n_batch, sampler=sampler, drop_last=True, collate_fn=_same, num_workers=workers,
        pin_memory=on_cuda, persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,  # a fork would copy the state of MPI and CUDA
    )


class _Sampler(DistributedSampler):
    left_out = 0  # indices at the start of the epoch

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.left_out, None)


def _same(batch: torch.Tensor) -> torch.Tensor:
    """Images arrive from the set as one tensor already."""
    return batch
