"""Training runs of section 7.1: ten images, batches drawn from them, and whether the run failed."""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.conv_vae.model import LATENTS, SIZE, ConvVaes, Scales
from experiments.shared.options import add_shared_options
from vdvae.data.splits import load_splits

IMAGES, BATCH = 10, 512
LAST = 20  # the final loss is the mean of so many losses at the end
DIVERGED = 100.0  # a final loss above so many times the first one is a failure
CHECK_EVERY = 50  # steps after which the program looks whether any member is still alive
RULE = (f"A run failed if a loss was NaN or infinite, or if the mean of its last {LAST} losses is above {DIVERGED:g} times its "
        "first loss.")


@dataclass(frozen=True)
class Runs:
    """Runs that train together. They differ in the seed alone."""

    scales: Scales
    lr: float
    seeds: list[int]


def ten_images(dataset: str, data_root: Path | str, seed: int) -> Tensor:
    """Ten training images of 32x32 drawn with `seed`, float32 `[10, 3, 32, 32]` in [0, 1]."""
    train = load_splits(dataset, str(data_root), SIZE, 0).train
    chosen = np.random.default_rng(seed).choice(len(train), size=IMAGES, replace=False)
    return train.__getitems__(chosen.tolist()).permute(0, 3, 1, 2).float() / 255


def train(runs: Runs, images: dict[int, Tensor], steps: int, device: str, tick: Callable[[int], object]) -> list[dict]:
    """Trains the runs and returns a record for each.

    `images` has the ten images of each seed. Losses are mean negative ELBOs in nats per image. `tick(n)` says that n more
    steps are done, counted over all runs. Training stops early when the weights of all runs are NaN, which stay NaN.
    """
    members = ConvVaes(runs.seeds, runs.scales, device)
    adam = torch.optim.Adam(members.parameters, runs.lr, fused=True)
    own_images = torch.stack([images[seed] for seed in runs.seeds]).to(device)
    noise = _Noise(runs.seeds, device)
    losses = []
    for step in range(1, steps + 1):
        each = members.negative_elbo(own_images, *noise.draw())
        adam.zero_grad()
        each.sum().backward()  # passes the gradient 1 to each member
        adam.step()
        losses.append(each.detach())
        tick(len(runs.seeds))
        if step % CHECK_EVERY == 0 and not _any_alive(members):
            tick((steps - step) * len(runs.seeds))
            break
    return [record(of_run) for of_run in torch.stack(losses, 1).tolist()]


def record(losses: list[float]) -> dict:
    """A run's first NaN or infinite loss (its step), its largest, first and final loss, and whether it failed.

    The final loss is NaN where a loss was not finite.
    """
    bad = next((step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
    finite = [loss for loss in losses if math.isfinite(loss)]
    final = math.nan if bad else sum(losses[-LAST:]) / len(losses[-LAST:])
    return {"first_nan": bad, "largest": max(finite, default=math.nan), "first": losses[0], "final": final,
            "failed": bad is not None or final > DIVERGED * abs(losses[0])}


def add_run_options(parser: argparse.ArgumentParser, steps: int, seeds: int, lrs: Sequence[float], out: str) -> None:
    """Options of the programs that train on ten images, with these defaults."""
    parser.add_argument("--steps", type=int, default=steps, metavar="N", help=f"updates of a run (default: {steps})")
    parser.add_argument("--lrs", type=float, nargs="+", default=list(lrs), metavar="LR",
                        help=f"learning rates (default: {' '.join(map(str, lrs))})")
    parser.add_argument("--dataset", default="photos32", choices=["photos32", "cifar10"], help="default: photos32")
    parser.add_argument("--data_root", default="./", metavar="DIR", help="folder of cifar10")
    add_shared_options(parser, seeds, out)


class _Noise:
    """Batches and noise that depend on the seed alone, so that a run sees the same beside any others."""

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


def _any_alive(members: ConvVaes) -> bool:
    """Whether any member has no NaN in the weights of the last layer. Every gradient reaches these weights."""
    return bool((~members.parameters[-2].isnan().flatten(1).any(1)).any())
