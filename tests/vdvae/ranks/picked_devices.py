"""Prints the device that this rank gets, or the error, where each rank seems to see one GPU: `picked_devices.py DEVICE ...`

It is the same GPU for all ranks, with `apart` in the environment a GPU of its own for each.
"""

import os
import sys
from types import SimpleNamespace

import torch

from vdvae.ranks import distributed
from vdvae.ranks.distributed import LaunchError, join_world, launched_rank

UUID = f"GPU-{launched_rank() if 'apart' in os.environ else 0}"
torch.cuda.get_device_properties = lambda _: SimpleNamespace(uuid=UUID)
distributed._backend = lambda _: "gloo"
torch.cuda.device_count, torch.cuda.set_device = lambda: 1, lambda _: None
for wanted in sys.argv[1:]:
    try:
        with join_world(None if wanted == "none" else wanted) as world:
            line = f"rank {world.rank} on {world.device}"
            world.barrier()  # rank 0 must not leave, and take the store with it, while rank 1 still arrives
    except LaunchError as error:
        line = error
    os.write(1, f"{wanted}: {line}\n".encode())  # print would write the line's end apart, and the ranks share a screen
