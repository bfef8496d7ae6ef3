"""Table 2 of Dehaene & Brossard 2021, which parameterizations fail at high learning rates: python -m experiments.table2"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tqdm import tqdm

from experiments.conv_vae.model import PIXEL_SCALE, Scales
from experiments.conv_vae.runs import RULE, Runs, add_run_options, ten_images, train
from experiments.conv_vae.table2_report import PAPER, write_report
from experiments.shared.options import check_options
from experiments.shared.results import ResultsFile
from stable_params import Exp, ExpLin, NaiveExp, UpBounded

ENCODED = {"NaiveExp": NaiveExp(), "Exp": Exp(), "ExpLin": ExpLin(), "UpBounded": UpBounded(1.0)}
DECODED = {"NaiveExp": NaiveExp(), "Exp": Exp(), "Bounded": PIXEL_SCALE}
DESCRIPTION = f"""VAEs train at high learning rates on batches of 512 drawn from ten images. The table has the share of runs
that failed for each scale of the latents, scale of the pixels (one learned number) and learning rate. {RULE} When
interrupted, the same command continues with the runs that are not finished."""


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
            for seed, record in zip(runs.seeds, records):
                results.add((*names, runs.lr, seed), record)
    print(write_report(Path(args.out), wanted(args, results.done), settings(args), args.lrs))
    return 0


def settings(args: argparse.Namespace) -> dict:
    """The settings that all results of a file share."""
    return {"table": 2, "dataset": args.dataset, "steps": args.steps}


def wanted(args: argparse.Namespace, done: dict) -> dict:
    """The results of the requested learning rates and seeds; the file may hold more."""
    return {key: record for key, record in done.items() if key[2] in args.lrs and key[3] < args.seeds}


def missing(args: argparse.Namespace, done: dict) -> Iterator[tuple[list[str], Runs]]:
    """The names of the scales and the runs that are not done, at most --together of them at once."""
    for *names, lr in product(ENCODED, DECODED, args.lrs):
        seeds = [seed for seed in range(args.seeds) if (*names, lr, seed) not in done]
        for first in range(0, len(seeds), args.together):
            yield names, Runs(Scales(ENCODED[names[0]], DECODED[names[1]]), lr, seeds[first : first + args.together])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.table2", description=DESCRIPTION, allow_abbrev=False)
    add_run_options(parser, steps=20_000, seeds=10, lrs=sorted(PAPER, reverse=True), out="./saved_models/table2")
    parser.add_argument("--together", type=int, default=1, metavar="N",
                        help="runs in one batched computation (default: 1, the fastest on a CPU; on a GPU, as many as fit)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
