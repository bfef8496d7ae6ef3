"""Options that the experiments share, their checks, and how a command ends."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from vdvae.step.acceleration import allow_tf32


def add_shared_options(parser: argparse.ArgumentParser, seeds: int, out: str) -> None:
    """Add --seeds, --device and --out, the first and the last with these defaults."""
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"seeds 0 to N - 1 (default: {seeds})")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--out", default=out, metavar="DIR",
                        help=f"folder of the results; the same command continues an interrupted one (default: {out})")


def check_options(args: argparse.Namespace) -> None:
    """Make the folder --out, and have GPUs multiply in float32: TF32's ten bits would decide which runs fail.

    Raises ValueError for a count below 1, a rate of --lrs that is not above 0, a --device that torch cannot use, and an
    --out that is a file.
    """
    for name, value in vars(args).items():
        if isinstance(value, int) and value < 1:
            raise ValueError(f"--{name} is {value}, it must be at least 1")
    if not all(lr > 0 for lr in vars(args).get("lrs", ())):
        raise ValueError(f"--lrs are {args.lrs}, they must be above 0")
    allow_tf32(False)
    try:
        torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {args.device} cannot be used, cpu always can: {reason}") from error
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out {args.out} is a file, it must be a folder")
    Path(args.out).mkdir(parents=True, exist_ok=True)


def exit_code(work: Callable[[], None]) -> int:
    """Do the work and return 0; after one line on stderr 2 for unusable input (ValueError, OSError).

    1 stands for a run that broke off (RuntimeError).
    """
    try:
        work()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
