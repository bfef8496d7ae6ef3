"""Images and noise for an ensemble. They depend on a member's seed alone, whatever other members there are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.mlp_vae.model import LATENTS

LEVELS = 256
NOISE_SEED = 256  # of the noise in evaluation, which all members share


@dataclass
class Data:
    """Images on one device: `train` uint8 `[N, 784]`; `valid` and `test` float32 `[N, 784]` in [0, 1], with noise."""

    train: Tensor
    valid: Tensor
    test: Tensor

    @classmethod
    def of(cls, train: np.ndarray, valid: np.ndarray, test: np.ndarray, device: str) -> "Data":
        """From grey levels, uint8 `[N, 784]` each."""
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noisy = [dequantised(torch.from_numpy(part), generator).to(device) for part in (valid, test)]
        return cls(torch.from_numpy(train).to(device), *noisy)


def dequantised(levels: Tensor, generator: torch.Generator) -> Tensor:
    """(k + u)/256 for grey levels k and uniform u in [0, 1): noise of one grey level's width."""
    return (levels + torch.rand(levels.shape, generator=generator)) / LEVELS


class Batches:
    """The training batches of members with these `seeds`.

    Each seed has its own order and its own noise, drawn from (seed, epoch). Members with the same seed share both.
    """

    def __init__(self, images: Tensor, seeds: list[int], batch_size: int):
        self.images, self.batch_size = images, batch_size
        self.distinct = sorted(set(seeds))
        self.member_rows = torch.tensor([self.distinct.index(seed) for seed in seeds], device=images.device)

    def __len__(self) -> int:
        """Batches in an epoch; the last one holds what is left."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(images `[E, B, 784]` in [0, 1), noise `[E, B, 128]`) of each batch; every image once."""
        generators = [_generator(seed, number, self.images.device) for seed in self.distinct]
        orders = torch.stack([torch.randperm(len(self.images), generator=each, device=each.device) for each in generators])
        for rows in orders.split(self.batch_size, 1):
            eps = torch.stack([_noise(rows.shape[1], generator) for generator in generators])
            yield (self.images[rows] / LEVELS)[self.member_rows], eps[self.member_rows]


def evaluation_batches(images: Tensor, members: int, batch_size: int, draws: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(images `[E, B, 784]`, noise `[draws, E, B, 128]`), the same for all members and in each call; no copies."""
    generator = torch.Generator(images.device).manual_seed(NOISE_SEED)
    for batch in images.split(batch_size):
        eps = torch.stack([_noise(len(batch), generator) for _ in range(draws)])
        yield batch.expand(members, -1, -1), eps[:, None].expand(-1, members, -1, -1)


def _generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed >> 1)


def _noise(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, LATENTS, generator=generator, device=generator.device)
