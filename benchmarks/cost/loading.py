"""How many images a second the loader delivers, from memory and from a mapped file: python -m benchmarks.cost.loading"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from vdvae.training import loader as loader_module
from vdvae.data.images import ArrayImages
from vdvae.ranks.distributed import World
from vdvae.settings.hparams import Hparams, load_hparams
from vdvae.training.loader import TrainLoader

SETS = {"cifar10": 45_000, "imagenet64": 40_000}  # images written; the real imagenet64 has 1,276,149
WAYS = {"resident": (2**40, 0), "mapped": (0, 0), "mapped, 2 loader processes": (0, 2)}  # limit in bytes, processes


def mapped_images(path: Path, count: int, size: int) -> ArrayImages:
    """Images of noise in a file that is mapped into memory."""
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size, 3))
    generator = np.random.default_rng(0)
    for start in range(0, count, 1000):
        part = file[start : start + 1000]
        part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)
    file.flush()
    return ArrayImages(np.lib.format.open_memmap(path, "r"))


def images_per_second(images: ArrayImages, hparams: Hparams, limit: int, device: torch.device) -> float:
    """Images a second of the second epoch, with each batch brought to the device; the first epoch warms up."""
    with patch.object(loader_module, "RESIDENT_BYTES", limit):
        loader = TrainLoader(images, hparams, World(device=device))
    for epoch in range(2):
        start = time.perf_counter()
        for batch in loader.epoch(epoch):
            batch.to(device, non_blocking=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return loader.steps_per_epoch * hparams.n_batch / (time.perf_counter() - start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each set and batch size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.loading", description=__doc__)
    parser.add_argument("--n_batch", type=int, nargs="+", default=[16, 128], help="images of a batch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    options = parser.parse_args(arguments)
    print(f"| set | batch | {' | '.join(WAYS)} |\n|---|---|{'---|' * len(WAYS)}")
    with tempfile.TemporaryDirectory() as folder:
        for name, count in SETS.items():
            size = load_hparams(["--hps", name]).image_size
            images = mapped_images(Path(folder) / f"{name}.npy", count, size)
            for n_batch in options.n_batch:
                rates = []
                for limit, processes in WAYS.values():
                    flags = ["--n_batch", str(n_batch), "--num_workers", str(processes)]
                    hparams = load_hparams(["--hps", name, *flags])
                    rates.append(images_per_second(images, hparams, limit, torch.device(options.device)))
                cells = " | ".join(f"{rate:,.0f}" for rate in rates)
                print(f"| {name}, {images.nbytes / 1e6:,.0f} MB | {n_batch} | {cells} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
