"""How much learning rate each parameterization bears before runs fail: python -m experiments.stability_map"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from experiments.conv_vae.model import PIXEL_SCALE, Scales
from experiments.conv_vae.runs import RULE, Runs, add_run_options, ten_images, train
from experiments.shared.failed_runs import share_text
from experiments.shared.options import check_options
from experiments.shared.rate_map import Results, cells, draw_map, largest_rate
from experiments.shared.results import ResultsFile
from stable_params import parse_parameterization

FLAGS = ("vanilla", "naive_exp", "exp", "explin", "upbounded1", "downbounded0.1", "bounded0.1_1", "softplus0.6931472",
         "softclamp5_0.01", "hardclamp-15_10")
LRS, STEPS = (0.002, 0.004, 0.008, 0.016, 0.032), 1000
DESCRIPTION = f"""The share of runs that fail, for every parameterization of the latents' scales and several learning rates: the
VAE of the paper's section 7.1 with Bounded pixels. {RULE} When interrupted, the same command continues."""


def main(argv: list[str] | None = None) -> int:
    """Run what is missing and write results.jsonl, map.md and map.png; 0, or 2 for unusable input."""
    args = _parser().parse_args(argv)
    try:
        check_options(args)
        results = ResultsFile(Path(args.out, "results.jsonl"), {"dataset": args.dataset, "steps": args.steps})
        fill(results, args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    wanted = {key: record for key, record in results.done.items() if key[1] in args.lrs and key[2] < args.seeds}
    print(write_report(args, wanted))
    return 0


def fill(results: ResultsFile, args: argparse.Namespace) -> None:
    """Make the runs that are missing, the lowest rates first, so that an early look compares all variants."""
    images = {seed: ten_images(args.dataset, args.data_root, seed) for seed in range(args.seeds)}
    keys = [(flag, lr, seed) for lr in sorted(args.lrs) for seed in range(args.seeds) for flag in args.flags]
    missing = [key for key in keys if key not in results.done]
    with tqdm(total=args.steps * len(missing), unit="step", smoothing=0.02) as bar:
        for flag, lr, seed in missing:
            bar.set_description(f"{flag}, lr {lr:g}")
            runs = Runs(Scales(parse_parameterization(flag), PIXEL_SCALE), lr, [seed])
            results.add((flag, lr, seed), train(runs, images, args.steps, args.device, bar.update)[0])


def write_report(args: argparse.Namespace, results: Results) -> str:
    """Write map.md and map.png into --out; returns the text."""
    lrs = sorted(args.lrs)
    text = f"Failed runs of section 7.1's VAE on {args.dataset}, {args.steps} steps. {RULE}\n\n{table(results, args.flags, lrs)}\n"
    Path(args.out, "map.md").write_text(text)
    draw_map(results, args.flags, lrs).savefig(Path(args.out, "map.png"), dpi=120)
    return text


def table(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> str:
    """Failed runs by variant and learning rate, and the largest rate up to which no run failed."""
    rows = [[variant, *map(share_text, runs), largest_rate(runs, lrs)]
            for variant, runs in zip(variants, cells(results, variants, lrs))]
    headers = ["parameterization", *(f"lr {lr:g}" for lr in lrs), "no failure up to"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.stability_map", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--flags", nargs="+", default=list(FLAGS), metavar="FLAG", help=f"default: {' '.join(FLAGS)}")
    add_run_options(parser, steps=STEPS, seeds=3, lrs=LRS, out="./saved_models/stability_map")
    return parser


if __name__ == "__main__":
    sys.exit(main())
