"""Random states: one stream of noise for each rank, and side streams that leave training's as it is."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from vdvae.ranks.distributed import World


def seed_noise(seed: int, world: World) -> None:
    """Start this rank's own stream of noise on CPU and GPU; no two ranks share one."""
    stream = np.random.SeedSequence([seed, world.rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    torch.manual_seed(int(stream))


@contextlib.contextmanager
def own_noise(seed: int, world: World) -> Iterator[None]:
    """In the block, noise depends on `seed` and the rank alone; after it the random state is as it was before."""
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed_noise(seed, world)
        yield


def noise_state(world: World) -> list:
    """The state of this rank's random generators: that of the CPU, and that of its GPU if it has one."""
    cuda = [torch.cuda.get_rng_state(world.device)] if world.device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def restore_noise(states: list, world: World) -> None:
    """Set this rank's random generators to a noise_state."""
    torch.set_rng_state(states[0])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(states[1], world.device)
