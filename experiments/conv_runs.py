"""Training runs of section 7.1: ten images, batches drawn from them, and whether the run failed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.conv_vae import LATENTS, SIZE, ConvVaes, Scales
from experiments.member_adam import MemberAdam
from vdvae.data.splits import load_splits

IMAGES, BATCH = 10, 512
LAST = 20  # losses at the end whose mean is the final loss
DIVERGED = 100.0  # times the first loss: a final loss above it is orders of magnitude above normal
CHECK_EVERY = 50  # steps between looks whether any member is still alive
RULE = (f"A run failed if a loss was NaN or infinite, or if the mean of its last {LAST} losses is above {DIVERGED:g} times its "
        "first loss.")


@dataclass(frozen=True)
class Runs:
    """Runs that differ in learning rate and seed alone, so that they train together."""

    scales: Scales
    lrs: list[float]
    seeds: list[int]


def ten_images(dataset: str, data_root: Path | str, seed: int) -> Tensor:
    """Ten training images of 32x32 drawn with `seed`, float32 `[10, 3, 32, 32]` in [0, 1]."""
    train = load_splits(dataset, str(data_root), SIZE, 0).train
    chosen = np.random.default_rng(seed).choice(len(train), size=IMAGES, replace=False)
    return train.__getitems__(chosen.tolist()).permute(0, 3, 1, 2).float() / 255


def train(runs: Runs, images: dict[int, Tensor], steps: int, device: str, tick: Callable[[int], object]) -> list[dict]:
    """A record for each run: step of the first loss that is not finite, largest, first and final loss, failed or not.

    `images` has each seed's ten. Losses are mean negative ELBOs in nats per image. `tick` hears of steps done, of all
    runs together. It stops early when the weights of all runs are NaN, which nothing brings back.
    """
    members = ConvVaes(runs.seeds, runs.scales, device)
    adam = MemberAdam(members.parameters, torch.tensor(runs.lrs, device=device))
    own_images = torch.stack([images[seed] for seed in runs.seeds]).to(device)
    noise = _Noise(runs.seeds, device)
    losses = []
    for step in range(1, steps + 1):
        each = members.negative_elbo(own_images, *noise.draw())
        adam.step(torch.autograd.grad(each.sum(), members.parameters))
        losses.append(each.detach())
        tick(len(runs.seeds))
        if step % CHECK_EVERY == 0 and not _alive(members):
            tick((steps - step) * len(runs.seeds))
            break
    return [record(of_run) for of_run in torch.stack(losses, 1).tolist()]


def record(losses: list[float]) -> dict:
    """What is kept of a run's losses; a run cut short had a loss that is not finite, and its final loss is NaN."""
    bad = next((step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
    finite = [loss for loss in losses if math.isfinite(loss)]
    final = math.nan if bad else sum(losses[-LAST:]) / len(losses[-LAST:])
    return {"first_nan": bad, "largest": max(finite, default=math.nan), "first": losses[0], "final": final,
            "failed": bad is not None or final > DIVERGED * abs(losses[0])}


class _Noise:
    """Batches and noise by seed, so that a run sees the same in any company."""

    def __init__(self, seeds: list[int], device: str):
        self.generators = {seed: torch.Generator(device).manual_seed(seed) for seed in dict.fromkeys(seeds)}
        self.seeds, self.device = seeds, device

    def draw(self) -> tuple[Tensor, Tensor]:
        """Indices of images `[E, 512]` and noise `[E, 512, 100]`."""
        pairs = {seed: self._pair(generator) for seed, generator in self.generators.items()}
        return tuple(torch.stack([pairs[seed][part] for seed in self.seeds]) for part in (0, 1))

    def _pair(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return (torch.randint(IMAGES, (BATCH,), generator=generator, device=self.device),
                torch.randn(BATCH, LATENTS, generator=generator, device=self.device))


def _alive(members: ConvVaes) -> bool:
    """Whether any member has no NaN in the last layer's weights, which every gradient reaches."""
    return bool((~members.parameters[-2].isnan().flatten(1).any(1)).any())
