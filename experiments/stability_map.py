"""How much learning rate each parameterization bears before runs fail: python -m experiments.stability_map --model conv"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from experiments import overfit_runs
from experiments.conv_runs import RULE, Runs, ten_images, train
from experiments.conv_vae import PIXEL_SCALE, Scales
from experiments.results_file import ResultsFile
from experiments.stability_report import write_report
from experiments.table2 import add_shared_options, check_options
from stable_params import parse_parameterization

FLAGS = ("vanilla", "naive_exp", "exp", "explin", "upbounded1", "downbounded0.1", "bounded0.1_1", "softplus0.6931472",
         "softclamp5_0.01", "hardclamp-15_10")
RESIDUAL = "/residual"  # after a flag: the posterior in units of the prior
VARIANTS = {"conv": FLAGS,
            "vdvae": (*FLAGS, *(flag + RESIDUAL for flag in ("exp", "explin", "upbounded1", "softclamp5_0.01")))}
LRS = {"conv": (0.002, 0.004, 0.008, 0.016, 0.032), "vdvae": (0.0075, 0.015, 0.03, 0.06)}
STEPS = {"conv": 1000, "vdvae": 200}
RULES = {"conv": RULE, "vdvae": overfit_runs.RULE}
DESCRIPTION = f"""The share of runs that fail, for every parameterization of the latents' scales and a range of learning rates.
conv: the VAE of the paper's section 7.1 with Bounded pixels. {RULE} Its prior is N(0, 1), in whose units a posterior is
what it is, so a residual one would be no other. vdvae: the set photos32_overfit, priors learned with the same
parameterization, for some also with residual posteriors. {overfit_runs.RULE} Interrupted, the same command goes on."""
Tick = Callable[[int], object]
Runner = Callable[[str, float, int, Tick], dict]


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
    print(write_report(Path(args.out), wanted, VARIANTS[args.model], sorted(args.lrs), heading(args)))
    return 0


def fill(results: ResultsFile, runner: Runner, args: argparse.Namespace) -> None:
    """Rates from the lowest, then seeds, so that an early look already compares all variants."""
    keys = [(variant, lr, seed) for lr in sorted(args.lrs) for seed in range(args.seeds) for variant in VARIANTS[args.model]]
    missing = [key for key in keys if key not in results.done]
    with tqdm(total=args.steps * len(missing), unit="step", smoothing=0.02) as bar:
        for key in missing:
            bar.set_description(f"{key[0]}, lr {key[1]:g}")
            results.add(key, runner(*key, bar.update))


def conv_runner(args: argparse.Namespace) -> Runner:
    """One run of section 7.1's VAE from variant, learning rate and seed."""
    images = {seed: ten_images(args.dataset, args.data_root, seed) for seed in range(args.seeds)}

    def run(flag: str, lr: float, seed: int, tick: Tick) -> dict:
        scales = Scales(parse_parameterization(flag), PIXEL_SCALE)
        return train(Runs(scales, [lr], [seed]), images, args.steps, args.device, tick)[0]

    return run


def overfit_runner(args: argparse.Namespace) -> Runner:
    """One run of photos32_overfit from variant, learning rate and seed."""
    def run(variant: str, lr: float, seed: int, tick: Tick) -> dict:
        flag, residual = variant.removesuffix(RESIDUAL), variant.endswith(RESIDUAL)
        record = overfit_runs.run(flag, residual, lr, seed, args.steps, Path(args.out, "runs"))
        tick(args.steps)
        return record

    return run


def heading(args: argparse.Namespace) -> str:
    """What was run, and when a run counts as failed."""
    what = f"section 7.1's VAE on {args.dataset}" if args.model == "conv" else "the set photos32_overfit"
    return f"Failed runs of {what}, {args.steps} steps. {RULES[args.model]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.stability_map", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--model", required=True, choices=["conv", "vdvae"])
    add_shared_options(parser, steps=None, seeds=3, out="./saved_models/stability_map")
    parser.add_argument("--lrs", type=float, nargs="+", metavar="LR", help=f"learning rates (default: {LRS})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
