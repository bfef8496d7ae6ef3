"""Cost of a training step of Table 3's VAEs, together and one after another: python -m experiments.mlp_vae_speed"""

import argparse
import statistics
import sys
import time

import torch
from tabulate import tabulate
from torch import Tensor

from experiments.mlp_vae import CELLS, Cell
from experiments.mlp_vae_options import BATCH_SIZE, check_training_options
from experiments.mlp_vae_training import Training
from experiments.mnist import PIXELS, TRAIN_IMAGES


def main(argv: list[str] | None = None) -> int:
    """Print the table; 0, or 2 for unusable options."""
    args = _parser().parse_args(argv)
    try:
        check_training_options(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    members = [(cell, seed) for cell in CELLS for seed in range(args.seeds)]
    together = milliseconds(members, args)
    alone = sum(milliseconds([(cell, 0)], args) for cell in CELLS) * args.seeds
    print(table(len(members), together, alone, args))
    return 0


def milliseconds(members: list[tuple[Cell, int]], args: argparse.Namespace) -> float:
    """The median time of a step of `members` together on random images, after one that is not counted."""
    images = torch.randint(0, 256, (args.batch_size, PIXELS), dtype=torch.uint8).to(args.device)
    cells, seeds = map(list, zip(*members))
    training = Training(cells, seeds, [1e-4] * len(seeds), images, args.batch_size)
    return 1000 * statistics.median([_seconds(training, images) for _ in range(args.steps + 1)][1:])


def table(members: int, together: float, alone: float, args: argparse.Namespace) -> str:
    """Milliseconds a step of all members, and the hours that 1000 epochs take at that cost."""
    steps = 1000 * -(-TRAIN_IMAGES // args.batch_size)
    rows = [[name, f"{cost:.1f}", f"{cost * steps / 3.6e6:.2f}"]
            for name, cost in (("together", together), ("one after another", alone))]
    headers = [f"{members} members, batch {args.batch_size}, {args.device}", "ms a step", "hours for 1000 epochs"]
    speedup = f"Together {alone / together:.2f} times as fast. Without evaluation."
    return "\n".join([tabulate(rows, headers, tablefmt="github", disable_numparse=True), "", speedup])


def _seconds(training: Training, images: Tensor) -> float:
    _wait_for(images.device)
    began = time.perf_counter()
    training.train_epoch()  # one step: there are as many images as in a batch
    _wait_for(images.device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.mlp_vae_speed", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="of each of the 12 cells (default: 5)")
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE, metavar="N", help=f"default: {BATCH_SIZE}")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="to time (default: 10)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    return parser


if __name__ == "__main__":
    sys.exit(main())
