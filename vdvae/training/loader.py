"""Batches of training images for one rank: a fresh order each epoch, no image seen twice in it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vdvae.data.images import ArrayImages, ImageSet, Splits, dtype_of
from vdvae.data.own.arrays import array_files
from vdvae.data.own.parts import Parts
from vdvae.data.own.standardise import measured
from vdvae.data.spec import DATASETS
from vdvae.data.splits import load_splits
from vdvae.ranks.distributed import World
from vdvae.records.screen import ignore_output_errors
from vdvae.settings.hparams import Hparams

RESIDENT_BYTES = 2 * 2**30  # an array of at most this size stays on the device
FILE_WORKERS = 2  # per rank, where images are read from files


def can_reside(images: ImageSet) -> bool:
    """Whether the set is an array of at most RESIDENT_BYTES."""
    return isinstance(images, ArrayImages) and images.nbytes <= RESIDENT_BYTES


class ResidentImages:
    """The images on the device: a copy on a GPU, the array itself on a CPU."""

    def __init__(self, images: ArrayImages, device: torch.device):
        self.images, self.device = images, device
        # As bytes, of which every device can select some; of uint16 it may not.
        self.pixels = None if device.type == "cpu" else torch.from_numpy(images.array[images.indices]).view(torch.uint8).to(device)

    def batches(self, order: Sequence[int], n_batch: int) -> Iterator[Tensor]:
        """The full batches `[n_batch, H, W, C]` of the images in this order."""
        order = order[: len(order) // n_batch * n_batch]
        if self.pixels is None:
            return (self.images.__getitems__(order[i : i + n_batch]) for i in range(0, len(order), n_batch))
        on_device = torch.tensor(order, device=self.device)
        dtype = dtype_of(self.images.bits)
        return (self.pixels.index_select(0, indices).view(dtype) for indices in on_device.split(n_batch))


class TrainLoader:
    """Iterate `epoch(k)` for the batches `[n_batch, H, W, C]` of epoch k on this rank.

    All ranks walk through one permutation of the images, given by seed and epoch, in strides of the number of ranks, so
    the global batches do not depend on how many ranks share them. The incomplete batch at the end is left out.
    A set that can reside stays on the device. Loader processes read a larger array that is mapped from a file, and files
    that are decoded, into pinned memory.
    Raises ValueError when the images do not fill one batch of all ranks, and for num_workers with a set that resides or is
    an array in memory: each loader process would get a copy of it.
    """

    def __init__(self, images: ImageSet, hparams: Hparams, world: World):
        if len(images) < hparams.n_batch * world.size:
            raise ValueError(f"n_batch {hparams.n_batch} on {world.size} ranks needs {hparams.n_batch * world.size} training "
                             f"images at least, {hparams.dataset} has {len(images)}")
        self.notes, self.broken = images.notes, {}
        self.sampler = _Sampler(images, world.size, world.rank, seed=hparams.seed, drop_last=True)
        self.n_batch = hparams.n_batch
        self.steps_per_epoch = len(self.sampler) // self.n_batch
        from_files = images.decodes or (isinstance(images, ArrayImages) and images.is_mapped and not can_reside(images))
        if hparams.num_workers and not from_files:
            raise ValueError(f"num_workers is {hparams.num_workers}, but {hparams.dataset} is an array in memory, read faster "
                             "without loader processes: leave it out")
        self.resident = ResidentImages(images, world.device) if can_reside(images) else None
        self.loader = None if self.resident else _make_loader(images, self.sampler, hparams, world, from_files)

    def epoch(self, number: int, first: int = 0) -> Iterator[Tensor]:
        """The `steps_per_epoch` batches of one epoch, without the `first` ones of them, which are not loaded."""
        self.sampler.set_epoch(number)
        self.sampler.left_out = first * self.n_batch
        return self.resident.batches(list(self.sampler), self.n_batch) if self.resident else self._loaded()

    def _loaded(self) -> Iterator[Tensor]:
        for batch, broken in self.loader:
            self.broken |= broken
            yield batch


def _make_loader(images: ImageSet, sampler: "_Sampler", hparams: Hparams, world: World, from_files: bool) -> DataLoader:
    on_cuda = world.device.type == "cuda"
    workers = hparams.num_workers
    if workers is None:  # without a GPU, training needs the cores, and mapping a file is as fast without processes
        workers = FILE_WORKERS if images.decodes or (from_files and on_cuda) else 0
    return DataLoader(
        _WithBroken(images), hparams.n_batch, sampler=sampler, drop_last=True, collate_fn=_same, num_workers=workers,
        pin_memory=on_cuda, persistent_workers=workers > 0, worker_init_fn=ignore_output_errors,
        generator=torch.Generator(),  # by default each epoch would take a number from training's noise
        multiprocessing_context="spawn" if workers else None,  # fork copies the state of MPI and CUDA
    )


class _Sampler(DistributedSampler):
    left_out = 0  # indices at the start of the epoch

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.left_out, None)


class _WithBroken(Dataset):
    """Batches with the messages on files that this process could not read: with loader processes, it is not the trainer's."""

    def __init__(self, images: ImageSet):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, dict[str, str]]:
        return self.images.__getitems__(indices), dict(self.images.broken)


def _same(batch: tuple) -> tuple:
    """The set gives a whole batch, so there is nothing to collate."""
    return batch


class TrainingData(NamedTuple):
    """The images that a run needs; `shown` `[n, H, W, C]` are the first validation images, for the sample sheets.

    `files` has the digests of a folder's files, by part and relative path; a saved state keeps it.
    """

    train: TrainLoader
    valid: ImageSet
    test: ImageSet
    shown: Tensor
    files: Parts

    def broken(self) -> dict[str, str]:
        """Messages, by path, on files that this rank could not read, and in whose place it read another one."""
        return self.train.broken | self.valid.broken | self.test.broken


def load_training_data(hparams: Hparams, world: World, known: Parts | None) -> tuple[Hparams, TrainingData]:
    """load_measured, ready for training; ValueError also for too few images and sheets among them."""
    _check_apart(hparams)
    hparams, splits = load_measured(hparams, known)
    shown = min(hparams.num_images_visualize, len(splits.valid))
    files = {part: images.files for part, images in splits._asdict().items() if images.files}
    return hparams, TrainingData(TrainLoader(splits.train, hparams, world), splits.valid, splits.test,
                                 splits.valid.__getitems__(list(range(shown))), files)


def load_measured(hparams: Hparams, known: Parts | None) -> tuple[Hparams, Splits]:
    """The data set of `hparams`, and `hparams` with what a folder's images say where they ask for nothing.

    That is channels, bits, and the mean and standard deviation of training images. `known` is `files` of the saved state that
    the run is resumed from, None for a new run. Raises OSError or ValueError for images that are missing or malformed.
    """
    splits = load_splits(hparams.dataset, hparams.data_root, hparams.image_size, hparams.seed, known, hparams.channels, hparams.bits)
    if DATASETS[hparams.dataset].channels is not None:
        return hparams, splits
    hparams = replace(hparams, channels=splits.train.image_shape[2], bits=splits.train.bits)
    if hparams.pixel_mean is None or hparams.pixel_std is None:
        mean, std = measured(splits.train)
        hparams = replace(hparams, pixel_mean=mean if hparams.pixel_mean is None else hparams.pixel_mean,
                          pixel_std=std if hparams.pixel_std is None else hparams.pixel_std)
    return hparams, splits


def _check_apart(hparams: Hparams) -> None:
    """Raise ValueError if the run's sample sheets would be among its images."""
    root = Path(hparams.data_root).resolve()
    has_parts = (root / "train").is_dir()
    if hparams.dataset == "folder" and not has_parts and not array_files(root) and Path(hparams.save_dir).resolve().is_relative_to(root):
        raise ValueError(f"save_dir {hparams.save_dir} lies in data_root {hparams.data_root}, so the run's sample sheets would "
                         "become images: name your folder of images with --data_root, or another --save_dir")
