"""Options that the experiments with stacked MLP VAEs share, their checks, and numbers as results files hold them."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

BATCH_SIZE = 512  # the paper gives none here; it is that of its section 7.1


def add_shared_options(parser: argparse.ArgumentParser, seeds: int, epochs: int, out: str) -> None:
    """Add them with these defaults."""
    parser.add_argument("--data_root", required=True, metavar="DIR",
                        help="folder with mnist.npz; run_scripts/setup_mnist.sh DIR gets it")
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"seeds 0 to N - 1 (default: {seeds})")
    parser.add_argument("--epochs", type=int, default=epochs, metavar="N", help=f"default: {epochs}, as in the paper")
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE, metavar="N",
                        help=f"default: {BATCH_SIZE}, that of section 7.1; the paper gives none for MNIST")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--out", default=out, metavar="DIR",
                        help=f"folder of the results, where the same command goes on when interrupted (default: {out})")


def check_shared_options(args: argparse.Namespace) -> None:
    """Make the folder --out; ValueError naming an option that cannot be, and what is allowed."""
    check_training_options(args)
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out {args.out} is a file, it must be a folder")
    Path(args.out).mkdir(parents=True, exist_ok=True)


def check_training_options(args: argparse.Namespace) -> None:
    """ValueError naming a count below 1 or a --device that torch cannot use."""
    for name, value in vars(args).items():
        if isinstance(value, int) and value < 1:
            raise ValueError(f"--{name} is {value}, it must be at least 1")
    try:
        torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {args.device} cannot be used, cpu always can: {reason}") from error


def shown(values: Tensor) -> list:
    """Nested lists of numbers to 6 digits; NaN and infinities as the strings that float() reads."""
    if values.ndim:
        return [shown(value) for value in values]
    return float(f"{values.item():.6g}") if values.isfinite() else str(values.item())
