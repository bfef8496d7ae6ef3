"""How much learning rate each parameterization bears before runs fail: python -m experiments.stability_map --model conv"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from tabulate import tabulate
from tqdm import tqdm

from experiments.conv_vae.model import PIXEL_SCALE, Scales
from experiments.conv_vae.runs import RULE, Runs, add_run_options, ten_images, train
from experiments.shared.failed_runs import draw_cells, share, share_text
from experiments.shared.options import check_options
from experiments.shared.results import ResultsFile
from experiments.study import overfit
from stable_params import parse_parameterization

FLAGS = ("vanilla", "naive_exp", "exp", "explin", "upbounded1", "downbounded0.1", "bounded0.1_1", "softplus0.6931472",
         "softclamp5_0.01", "hardclamp-15_10")
RESIDUAL = "/residual"  # after a flag: the posterior is relative to the prior
VARIANTS = {"conv": FLAGS,
            "vdvae": (*FLAGS, *(flag + RESIDUAL for flag in ("exp", "explin", "upbounded1", "softclamp5_0.01")))}
LRS = {"conv": (0.002, 0.004, 0.008, 0.016, 0.032), "vdvae": (0.0075, 0.015, 0.03, 0.06)}
STEPS = {"conv": 1000, "vdvae": 200}
RULES = {"conv": RULE, "vdvae": overfit.RULE}
DESCRIPTION = f"""The share of runs that fail, for every parameterization of the latents' scales and several learning rates.
conv: the VAE of the paper's section 7.1 with Bounded pixels. {RULE} Its prior is N(0, 1), so a residual posterior would be
the same as an absolute one. vdvae: the set photos32_overfit; the priors are learned with the same parameterization, and some
posteriors are residual. {overfit.RULE} When interrupted, the same command continues."""
Tick = Callable[[int], object]
Runner = Callable[[str, float, int, Tick], dict]
Results = Mapping[tuple, dict]  # (variant, lr, seed) to the run's record


def main(argv: list[str] | None = None) -> int:
    """Run what is missing and write results.jsonl, map.md and map.png; 0, 2 for unusable input, 1 if a run broke off."""
    args = _parser().parse_args(argv)
    args.lrs, args.steps = args.lrs or list(LRS[args.model]), STEPS[args.model] if args.steps is None else args.steps
    try:
        check_options(args)
        runner = overfit_runner(args) if args.model == "vdvae" else conv_runner(args)
        settings = {"model": args.model, "dataset": args.dataset, "steps": args.steps}
        results = ResultsFile(Path(args.out, "results.jsonl"), settings)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        fill(results, runner, args)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wanted = {key: record for key, record in results.done.items() if key[1] in args.lrs and key[2] < args.seeds}
    print(write_report(args, wanted))
    return 0


def fill(results: ResultsFile, runner: Runner, args: argparse.Namespace) -> None:
    """Make the runs that are missing, the lowest rates first, so that an early look compares all variants."""
    keys = [(variant, lr, seed) for lr in sorted(args.lrs) for seed in range(args.seeds) for variant in VARIANTS[args.model]]
    missing = [key for key in keys if key not in results.done]
    with tqdm(total=args.steps * len(missing), unit="step", smoothing=0.02) as bar:
        for key in missing:
            bar.set_description(f"{key[0]}, lr {key[1]:g}")
            results.add(key, runner(*key, bar.update))


def conv_runner(args: argparse.Namespace) -> Runner:
    """Makes one run of section 7.1's VAE from variant, learning rate and seed."""
    images = {seed: ten_images(args.dataset, args.data_root, seed) for seed in range(args.seeds)}

    def run(flag: str, lr: float, seed: int, tick: Tick) -> dict:
        scales = Scales(parse_parameterization(flag), PIXEL_SCALE)
        return train(Runs(scales, lr, [seed]), images, args.steps, args.device, tick)[0]

    return run


def overfit_runner(args: argparse.Namespace) -> Runner:
    """Makes one run of photos32_overfit from variant, learning rate and seed."""
    def run(variant: str, lr: float, seed: int, tick: Tick) -> dict:
        flag, residual = variant.removesuffix(RESIDUAL), variant.endswith(RESIDUAL)
        record = overfit.run(flag, residual, lr, seed, args.steps, Path(args.out, "runs"))
        tick(args.steps)
        return record

    return run


def write_report(args: argparse.Namespace, results: Results) -> str:
    """Write map.md and map.png into --out; returns the text."""
    what = f"section 7.1's VAE on {args.dataset}" if args.model == "conv" else "the set photos32_overfit"
    variants, lrs = VARIANTS[args.model], sorted(args.lrs)
    text = f"Failed runs of {what}, {args.steps} steps. {RULES[args.model]}\n\n{table(results, variants, lrs)}\n"
    Path(args.out, "map.md").write_text(text)
    draw(results, variants, lrs).savefig(Path(args.out, "map.png"), dpi=120)
    return text


def table(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> str:
    """Failed runs by variant and learning rate, and the largest rate up to which no run failed."""
    rows = [[variant, *map(share_text, runs), _largest(runs, lrs)]
            for variant, runs in zip(variants, _cells(results, variants, lrs))]
    headers = ["parameterization", *(f"lr {lr:g}" for lr in lrs), "no failure up to"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def draw(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> Figure:
    """The map: variants by learning rate, coloured by the share of failed runs."""
    figure = Figure(figsize=(3.2 + 0.95 * len(lrs), 1.3 + 0.36 * len(variants)), layout="constrained")
    axes, cells = figure.subplots(), _cells(results, variants, lrs)
    image = draw_cells(axes, cells, [list(map(share_text, runs)) for runs in cells], variants, [f"{lr:g}" for lr in lrs])
    axes.set_xlabel("learning rate")
    figure.colorbar(image, ax=axes, label="share of failed runs")
    return figure


def _cells(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> list[list[list[dict]]]:
    return [[[record for key, record in results.items() if key[:2] == (variant, lr)] for lr in lrs] for variant in variants]


def _largest(runs: list[list[dict]], lrs: Sequence[float]) -> str:
    largest = "none"
    for of_rate, lr in zip(runs, lrs):
        if share(of_rate) != 0:
            break
        largest = f"{lr:g}"
    return largest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.stability_map", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--model", required=True, choices=["conv", "vdvae"])
    add_run_options(parser, steps=None, seeds=3, lrs=str(LRS), out="./saved_models/stability_map")
    return parser


if __name__ == "__main__":
    sys.exit(main())
