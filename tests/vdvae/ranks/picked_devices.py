"""Prints the device that this rank gets, or the error, where each node seems to have one GPU: `picked_devices.py DEVICE ...`"""

import sys

import torch

from vdvae.ranks.distributed import LaunchError, join_world

torch.cuda.device_count, torch.cuda.set_device = lambda: 1, lambda _: None
for wanted in sys.argv[1:]:
    try:
        with join_world(None if wanted == "none" else wanted) as world:
            print(f"{wanted}: rank {world.rank} on {world.device}", flush=True)
    except LaunchError as error:
        print(f"{wanted}: {error}", flush=True)
