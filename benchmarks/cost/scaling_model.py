"""The arithmetic of data-parallel training: FLOP of an image, time of an all-reduce, compute that hides it.

Times are bounds from the bandwidths below, which are published link rates: no latency, no protocol, no contention.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vdvae import VAE, load_hparams

NVLINK = 450e9  # bytes per second and direction of one GPU: NVLink 4, 18 links of 25 GB/s
NETWORK = 200e9 / 8  # bytes per second and direction of one link of 200 Gb/s
GPUS_PER_NODE = 8
FLOAT32, BFLOAT16 = 4, 2  # bytes of a number
TRAIN_IMAGES = {"cifar10": 45_000, "imagenet64": 1_276_149, "ffhq256": 63_000}


@dataclass(frozen=True)
class Work:
    """What training on a set costs: `forward` and `backward` are FLOP of one image, `n_batch` the set's batch of a rank."""

    name: str
    parameters: int
    forward: int
    backward: int
    n_batch: int

    @property
    def backward_share(self) -> float:
        """The backward pass as a share of both passes."""
        return self.backward / (self.forward + self.backward)


@cache
def count_work(name: str) -> Work:
    """Build the model of set `name` and run it both ways on one image, with fake tensors: shapes without numbers."""
    hparams = load_hparams(["--hps", name])
    with FakeTensorMode():
        vae, size = VAE(hparams), hparams.image_size
        input, target = torch.empty(1, 3, size, size), torch.empty(1, size, size, 3)
        with FlopCounterMode(display=False) as forward:
            loss = vae(input, target).negative_elbo
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    parameters = sum(parameter.numel() for parameter in vae.parameters())
    return Work(name, parameters, forward.get_total_flops(), backward.get_total_flops(), hparams.n_batch)


def ring_bytes(size: float, members: int) -> float:
    """What each member of a ring sends while `size` bytes are all-reduced; as much comes in meanwhile."""
    return 2 * (members - 1) / members * size


def allreduce_seconds(size: float, gpus: int, links: int) -> float:
    """`size` bytes all-reduced over `gpus`, whole nodes with `links` to the network each.

    Reduce-scatter within the nodes, all-reduce of each part between the nodes, all-gather within the nodes, one after
    another.
    """
    within = ring_bytes(size, GPUS_PER_NODE) / NVLINK
    between = ring_bytes(size, gpus // GPUS_PER_NODE) / (links * NETWORK)
    return within + between


def compute_seconds(allreduce: float, backward_share: float, efficiency: float = 1.0, parts: int = 1) -> float:
    """Compute time C of an update at which a GPU computes for the share `efficiency` of the time; 1: the shortest.

    The gradients of an update's last part travel while that part's backward pass runs, so an update takes
    C + max(0, allreduce − backward_share·C/parts), and this solves efficiency = C / that.
    """
    return efficiency * allreduce / (1 - efficiency * (1 - backward_share / parts))


def updates_per_epoch(work: Work, gpus: int) -> int:
    """Updates in which each training image is seen once; the incomplete batch at the end is left out."""
    return TRAIN_IMAGES[work.name] // (gpus * work.n_batch)
