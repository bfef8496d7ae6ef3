"""What `sample` and `encode` share: values of their flags, checks of their outputs, batches, exit codes."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vdvae.ranks.distributed import LaunchError, StartError, World, join_world
from vdvae.records.lines import printable
from vdvae.step.acceleration import allow_tf32


def whole(minimum: int) -> Callable[[str], int]:
    """An argparse type: whole numbers, at least `minimum`."""
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least {minimum}")
        return int(text)
    return parse


def positive(text: str) -> float:
    """An argparse type: finite numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a finite number above 0")
    return value


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Add --seed, --n_batch and --device."""
    parser.add_argument("--seed", type=whole(0), default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--n_batch", type=whole(1), default=16, help="images at a time (default: 16)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")


def check_new_file(out: Path) -> None:
    """Raise OSError if the file --out is there already, or if its folder is not."""
    if out.exists():
        raise FileExistsError(f"--out {out} is there already, and nothing is overwritten: name a new file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}")


def check_new_folder(flag: str, out: Path) -> None:
    """Raise FileExistsError if `out` is there already, unless it is an empty folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{flag} {out} is there already, and nothing is overwritten: name a new folder")


def batches(count: int, n_batch: int) -> list[tuple[int, int]]:
    """Pairs (start, stop) that cover range(count)."""
    return [(start, min(start + n_batch, count)) for start in range(0, count, n_batch)]


def run_alone(command: str, device: str | None, work: Callable[[World], str]) -> int:
    """Print what `work` returns, computed without TF32, and return 0; return 2 after one line on stderr for input that cannot be used."""
    allow_tf32(False)
    try:
        with join_world(device) as world:
            if world.size > 1:
                raise StartError(f"{world.size} ranks were started: this runs in one process")
            print(work(world))
    except (OSError, ValueError, LaunchError, StartError) as error:
        print(f"{command}: {printable(error)}", file=sys.stderr)
        return 2
    return 0
