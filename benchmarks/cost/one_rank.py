"""A group of ranks with one rank in it, which needs one GPU: its collectives, and what shared gradients cost an update.

    torchrun --nproc_per_node 1 -m benchmarks.cost.one_rank --hps cifar10 --n_batch 16

A run on one rank makes no use of its group, so here gradients are shared as between two.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.distributed as dist

from benchmarks.cost.train_step import Comparison, Contestant, ours
from benchmarks.cost.work import count_work
from vdvae.ranks.distributed import World, join_world, share_gradients
from vdvae.settings.hparams import load_hparams

ROUNDS = 5


def check_collectives(world: World) -> None:
    """Every call that World makes of torch.distributed; raises RuntimeError where a result is wrong."""
    values, items = torch.arange(4.0, device=world.device), [None]
    gathered = [torch.empty_like(values)]
    dist.all_gather(gathered, values)
    dist.all_gather_object(items, "an object")
    dist.all_reduce(values)
    dist.barrier()
    if not (torch.equal(gathered[0], values) and values.tolist() == [0, 1, 2, 3] and items == ["an object"]):
        raise RuntimeError(f"the collectives give {gathered}, {values} and {items}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 when an update failed."""
    parser = argparse.ArgumentParser(prog="torchrun --nproc_per_node 1 -m benchmarks.cost.one_rank", description=__doc__)
    parser.add_argument("--hps", default="cifar10", help="hyper-parameter set")
    parser.add_argument("--n_batch", type=int, default=16, help="images of an update")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    options = parser.parse_args(arguments)
    with join_world(options.device) as world:
        if not dist.is_initialized():
            parser.error("there is no group of ranks: start this with torchrun")
        check_collectives(world)
        print(f"{dist.get_backend()} on {world.device}: the collectives work", flush=True)
        return int(compare(options.hps, options.n_batch, world) > 0)


def compare(hps: str, n_batch: int, world: World) -> int:
    """Prints the table of updates whose gradients are not shared, or shared in each of the ways; returns the failures."""
    hparams, work = load_hparams(["--hps", hps, "--n_batch", str(n_batch)]), count_work(hps)
    images = torch.randint(0, 256, (n_batch, hparams.image_size, hparams.image_size, 3), dtype=torch.uint8).to(world.device)

    def shared(compress: bool) -> Contestant:
        return ours(hparams, images, lambda vae: share_gradients(vae, replace(world, size=2), compress))

    comparison = Comparison("alone", ROUNDS, world.device.type, n_batch * (work.forward + work.backward))
    comparison.add("alone", lambda: ours(hparams, images))
    comparison.add("shared", lambda: shared(compress=False))
    comparison.add("shared, compressed", lambda: shared(compress=True))
    if world.device.type == "cuda":
        graphed = replace(hparams, cuda_graphs=True)
        comparison.add("shared between two graphs", lambda: ours(graphed, images, ranks=2))
    return comparison.end()


if __name__ == "__main__":
    sys.exit(main())
