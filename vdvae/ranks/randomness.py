"""Random states: one stream of noise for each rank, and side streams that leave training's as it is."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from vdvae.ranks.distributed import World


def seed_noise(seed: int, world: World, step: int | None = None) -> None:
    """Start this rank's own stream of noise on CPU and GPU; no two ranks share one, nor two values of `step`."""
    stream = np.random.SeedSequence([seed, world.rank, *([] if step is None else [step])]).generate_state(1, np.uint64)[0] >> np.uint64(1)
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


def restore_noise(states: list, seed: int, step: int, world: World) -> bool:
    """Set this rank's random generators to a noise_state; False if a rank on another kind of device made it.

    Then this rank starts a new stream, which depends on `seed` and `step`.
    """
    on_cuda = world.device.type == "cuda"
    if len(states) != 1 + on_cuda:
        seed_noise(seed, world, step)
        return False
    torch.set_rng_state(states[0])
    if on_cuda:
        torch.cuda.set_rng_state(states[1], world.device)
    return True
