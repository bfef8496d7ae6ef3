"""Table 2 of Dehaene & Brossard 2021, which parameterizations fail at high learning rates: python -m experiments.table2"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tqdm import tqdm

from experiments.conv_runs import RULE, Runs, ten_images, train
from experiments.conv_vae import PIXEL_SCALE, Scales
from experiments.mlp_vae_options import check_shared_options
from experiments.results_file import ResultsFile
from experiments.table2_report import PAPER, write_report
from stable_params import Exp, ExpLin, NaiveExp, UpBounded

ENCODED = {"NaiveExp": NaiveExp(), "Exp": Exp(), "ExpLin": ExpLin(), "UpBounded": UpBounded(1.0)}
DECODED = {"NaiveExp": NaiveExp(), "Exp": Exp(), "Bounded": PIXEL_SCALE}
DESCRIPTION = f"""VAEs trained at high learning rates on batches of 512 drawn from ten images: for each scale of the latents,
of the pixels (one learned number) and learning rate, the share of runs that failed. {RULE} Interrupted, the same command
goes on with the runs that are not finished."""


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and write results.jsonl, table2.md and table2.png; 0, or 2 for unusable input."""
    args = _parser().parse_args(argv)
    try:
        check_options(args)
        images = {seed: ten_images(args.dataset, args.data_root, seed) for seed in range(args.seeds)}
        results = ResultsFile(Path(args.out, "results.jsonl"), settings(args))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    groups = list(missing(args, results.done))
    with tqdm(total=args.steps * sum(len(runs.seeds) for _, runs in groups), unit="step", smoothing=0.02) as bar:
        for names, runs in groups:
            bar.set_description("/".join(names))
            records = train(runs, images, args.steps, args.device, bar.update)
            for lr, seed, record in zip(runs.lrs, runs.seeds, records):
                results.add((*names, lr, seed), record)
    print(write_report(Path(args.out), wanted(args, results.done), settings(args), args.lrs))
    return 0


def settings(args: argparse.Namespace) -> dict:
    """What all results of a file have in common."""
    return {"table": 2, "dataset": args.dataset, "steps": args.steps}


def wanted(args: argparse.Namespace, done: dict) -> dict:
    """The results of the learning rates and seeds asked for; the file may hold more."""
    return {key: record for key, record in done.items() if key[2] in args.lrs and key[3] < args.seeds}


def missing(args: argparse.Namespace, done: dict) -> Iterator[tuple[tuple[str, str], Runs]]:
    """Runs that are not done, up to --together at once, with the names of their scales."""
    for names in product(ENCODED, DECODED):
        pairs = [pair for pair in product(args.lrs, range(args.seeds)) if (*names, *pair) not in done]
        for first in range(0, len(pairs), args.together):
            lrs, seeds = map(list, zip(*pairs[first : first + args.together]))
            yield names, Runs(Scales(ENCODED[names[0]], DECODED[names[1]]), lrs, seeds)


def check_options(args: argparse.Namespace) -> None:
    """Make the folder --out; ValueError naming an option that cannot be, and what is allowed."""
    if not all(lr > 0 for lr in args.lrs):
        raise ValueError(f"--lrs are {args.lrs}, they must be above 0")
    check_shared_options(args)


def add_shared_options(parser: argparse.ArgumentParser, steps: int | None, seeds: int, out: str) -> None:
    """Options that the experiments on ten images share, with these defaults."""
    parser.add_argument("--steps", type=int, default=steps, metavar="N", help=f"updates of a run (default: {steps or 'by the model'})")
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"seeds 0 to N - 1 (default: {seeds})")
    parser.add_argument("--dataset", default="photos32", choices=["photos32", "cifar10"], help="default: photos32")
    parser.add_argument("--data_root", default="./", metavar="DIR", help="folder of cifar10")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--together", type=int, default=1, metavar="N",
                        help="runs in one batched computation (default: 1, the fastest on a CPU; on a GPU, as many as fit)")
    parser.add_argument("--out", default=out, metavar="DIR", help=f"folder of the results (default: {out})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.table2", description=DESCRIPTION, allow_abbrev=False)
    add_shared_options(parser, steps=20_000, seeds=10, out="./saved_models/table2")
    parser.add_argument("--lrs", type=float, nargs="+", default=sorted(PAPER, reverse=True), metavar="LR",
                        help="learning rates (default: the paper's, 0.008 0.007 0.006)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
