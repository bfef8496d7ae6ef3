"""Which scales a VDVAE bears at which learning rate: python -m experiments.vdvae_map --model overfit"""

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from experiments.shared.failed_runs import wilson
from experiments.shared.options import add_shared_options, check_options, exit_code
from experiments.shared.rate_map import Results, cells, draw_map, largest_rate
from experiments.shared.results import ResultsFile
from experiments.study.one_run import train
from vdvae import load_hparams

RESIDUAL = "/residual"  # at the end of a variant: the posterior is relative to the prior
VARIANTS = ("vanilla", "vanilla/constant1", "explin", "upbounded1", "explin/constant1", "upbounded1/constant1",
            "upbounded2/constant1", "explin/bounded0.1_1", "explin/bounded0.3_1", "explin/bounded0.3_1.7",
            "upbounded1/bounded0.3_1", "explin/downbounded0.3", "explin/residual", "explin/bounded0.3_1/residual")
FAR = 2.0  # a run diverged if it ends above so many times the median of the others
RULE = (f"A run failed if an update was NaN or infinite, if it got stuck, or if it diverged: its final loss is not finite, or above "
        f"{FAR:g} times the median of the runs at this rate that neither had NaN nor got stuck.")


class Model(NamedTuple):
    """A model and its data, as flags of train.py, and the learning rates that are tried."""

    meaning: str
    flags: list[str]
    lrs: tuple[float, ...]


TEN = ["--hps", "photos32_overfit"]
PHOTOS = ["--hps", "photos32", "--precision", "fp32", "--epochs_per_eval", "1000", "--test_at_end", "--num_iters"]
MODELS = {
    "overfit": Model("photos32_overfit as quickstart has it: ten images, one an update, 12 blocks, 200 updates", TEN,
                     (0.035, 0.07, 0.14)),
    "deep": Model("photos32_overfit with 26 blocks",
                  [*TEN, "--enc_blocks", "32x2,32d2,16x2,16d2,8x2,8d2,4x1,4d4,1x1",
                   "--dec_blocks", "1x2,4m1,4x4,8m4,8x6,16m8,16x8,32m16,32x2"], (0.07,)),
    "photos32": Model("photos32 at its learning rate, one epoch; test images", [*PHOTOS, "586"], (0.002,)),
    "raised": Model("photos32 at higher rates, one epoch; test images", [*PHOTOS, "586"], (0.005, 0.01)),
}
DESCRIPTION = f"""The share of runs that fail, by the posteriors' and the priors' scales (explin/constant1: ExpLin posteriors,
the priors' scale is 1) and the learning rate. {RULE} When interrupted, the same command continues."""


def main(argv: list[str] | None = None) -> int:
    """Make the runs that are missing, write MODEL.md and MODEL.png into --out; 2 for unusable input, 1 if a run broke off."""
    args = _parser().parse_args(argv)
    args.lrs = args.lrs or list(MODELS[args.model].lrs)
    return exit_code(lambda: _make(args))


def _make(args: argparse.Namespace) -> None:
    check_options(args)
    for variant in args.variants:
        load_hparams([*MODELS[args.model].flags, *flags_of(variant)])
    results = ResultsFile(Path(args.out, f"{args.model}.jsonl"), {"model": args.model, "flags": MODELS[args.model].flags})
    fill(results, args)
    wanted = {(variant, lr, seed) for variant in args.variants for lr in args.lrs for seed in range(args.seeds)}
    print(write_report(args, {key: record for key, record in results.done.items() if key in wanted}))


def flags_of(variant: str) -> list[str]:
    """`explin/bounded0.3_1/residual` as flags of train.py: ExpLin posteriors in units of their Bounded priors."""
    posterior, _, prior = variant.removesuffix(RESIDUAL).partition("/")
    scales = {"": ["--sigma_param", posterior], "constant1": ["--sigma_param", posterior, "--prior_const1"]}
    both = ["--posterior_sigma_param", posterior, "--prior_sigma_param", prior]
    return [*scales.get(prior, both), "--posterior", "residual" if variant.endswith(RESIDUAL) else "absolute"]


def fill(results: ResultsFile, args: argparse.Namespace) -> None:
    """Make the runs that are missing, --jobs at a time, seed by seed, so that an early look compares all variants."""
    keys = [(variant, lr, seed) for seed in range(args.seeds) for lr in sorted(args.lrs) for variant in args.variants]
    missing = [key for key in keys if key not in results.done]
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(missing), unit="run", smoothing=0.05) as bar:
        runs = {pool.submit(_run, args, key): key for key in missing}
        try:
            for done in as_completed(runs):
                results.add(runs[done], done.result())
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _run(args: argparse.Namespace, key: tuple[str, float, int]) -> dict:
    variant, lr, seed = key
    desc = f"{args.model}_{variant.replace('/', '_')}_lr{lr:g}_s{seed}"
    flags = [*MODELS[args.model].flags, *flags_of(variant), "--lr", lr, "--seed", seed, "--device", args.device]
    return train(Path(args.out, "runs"), desc, flags)


def write_report(args: argparse.Namespace, results: Results) -> str:
    """Write MODEL.md and MODEL.png into --out; returns the text."""
    variants, lrs = args.variants, sorted(args.lrs)
    judged = judge(results)
    text = "\n\n".join([f"{MODELS[args.model].meaning}. {RULE}", failures_table(judged, variants, lrs),
                        *(losses_table(judged, variants, lr) for lr in lrs)]) + "\n"
    Path(args.out, f"{args.model}.md").write_text(text)
    draw_map(judged, variants, lrs).savefig(Path(args.out, f"{args.model}.png"), dpi=120)
    return text


def judge(results: Results) -> Results:
    """The records with `failed`, by RULE."""
    broken = {key: record["nan_updates"] > 0 or record["stuck"] for key, record in results.items()}
    limits = {}
    for lr in {lr for _, lr, _ in results}:
        finals = [record["final"] for key, record in results.items() if key[1] == lr and not broken[key]]
        limits[lr] = FAR * median(finals or [math.inf])
    return {key: {**record, "failed": broken[key] or not record["final"] <= limits[key[1]]} for key, record in results.items()}


def failures_table(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> str:
    """Failed runs with the interval of their share, those of them with NaN and those that got stuck, by rate."""
    rows = [[variant, *map(_counts, runs), largest_rate(runs, lrs)] for variant, runs in zip(variants, cells(results, variants, lrs))]
    headers = ["posterior/prior", *(f"lr {lr:g}: failed; NaN, stuck" for lr in lrs), "no failure up to"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def losses_table(results: Results, variants: Sequence[str], lr: float) -> str:
    """Skipped updates and final loss of every run at one rate, in the order of the seeds."""
    rows = [[variant, ", ".join(str(run["skipped_updates"]) for run in runs), ", ".join(_bits(run["final"]) for run in runs)]
            for variant, (runs,) in zip(variants, cells(results, variants, [lr]))]
    headers = ["posterior/prior", f"skipped updates by seed, lr {lr:g}", "final bits/dim by seed"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _counts(runs: list[dict]) -> str:
    if not runs:
        return "-"
    failed, nan, stuck = (sum(run[name] > 0 for run in runs) for name in ("failed", "nan_updates", "stuck"))
    low, high = wilson(failed, len(runs))
    return f"{failed}/{len(runs)} ({low:.0%} to {high:.0%}); {nan}, {stuck}"


def _bits(nats: float) -> str:
    bits = nats / math.log(2)
    return f"{bits:.2f}" if abs(bits) < 1000 else f"{bits:.0e}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.vdvae_map", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--model", required=True, choices=MODELS, 
                        help="; ".join(f"{name}: {model.meaning}" for name, model in MODELS.items()))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="V", help=f"default: {' '.join(VARIANTS)}")
    parser.add_argument("--lrs", type=float, nargs="+", metavar="LR", help="learning rates (default: by the model)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, one thread each (default: 1)")
    add_shared_options(parser, seeds=10, out="./saved_models/vdvae_map")
    return parser


if __name__ == "__main__":
    sys.exit(main())
