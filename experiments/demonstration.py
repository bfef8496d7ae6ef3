"""How surely quickstart's two runs show what a stable scale is for, on any machine: python -m experiments.demonstration"""

import argparse
import math
import sys
from pathlib import Path
from statistics import median

from tabulate import tabulate
from tqdm import tqdm

from experiments.shared.failed_runs import wilson
from experiments.shared.options import add_shared_options, check_options, exit_code
from experiments.shared.results import ResultsFile
from experiments.study.one_run import train

VARIANTS = {"vanilla": ["--sigma_param", "vanilla"],
            "explin/prior_const1": ["--sigma_param", "explin", "--prior_const1"],
            "upbounded1/prior_const1": ["--sigma_param", "upbounded1", "--prior_const1"]}
KERNELS = {"default": "SSE41", "avx2": "AVX2", "avx512": "ALL"}  # ATEN_CPU_CAPABILITY to the same limit for oneDNN


def main(argv: list[str] | None = None) -> int:
    """Make the runs that are missing, print their table and write it to table.md; 2 for unusable input, 1 if a run broke off."""
    args = _parser().parse_args(argv)
    return exit_code(lambda: _make(args))


def _make(args: argparse.Namespace) -> None:
    check_options(args)
    if min(args.ranks) < 1:
        raise ValueError(f"--ranks are {args.ranks}, they must be at least 1")
    results = ResultsFile(Path(args.out, "results.jsonl"), {"device": args.device})
    fill(results, args)
    text = table(results.done)
    Path(args.out, "table.md").write_text(text + "\n")
    print(text)


def fill(results: ResultsFile, args: argparse.Namespace) -> None:
    """Make the runs that are missing, seed by seed, so that an early look compares all settings."""
    keys = [(variant, kernels, ranks, seed) for seed in range(args.seeds) for kernels in args.kernels for ranks in args.ranks
            for variant in args.variants]
    for variant, kernels, ranks, seed in tqdm([key for key in keys if key not in results.done], unit="run"):
        desc = f"{variant.replace('/', '_')}_{kernels}_r{ranks}_s{seed}"
        flags = ["--hps", "photos32_overfit", *VARIANTS[variant], "--seed", seed, "--device", args.device]
        record = train(Path(args.out, "runs"), desc, flags, ranks,
                       ATEN_CPU_CAPABILITY=kernels, ONEDNN_MAX_CPU_ISA=KERNELS[kernels])
        results.add((variant, kernels, ranks, seed), record)


def table(results: dict[tuple, dict]) -> str:
    """A row for each variant, number of ranks and kernels. The set skips no other updates than NaN and infinite ones."""
    cells = {}
    for (variant, kernels, ranks, seed), record in sorted(results.items(), key=lambda item: item[0][3]):
        cells.setdefault((variant, ranks, kernels), []).append(record)
    order = sorted(cells, key=lambda cell: (list(VARIANTS).index(cell[0]), cell[1]))
    headers = ["parameterization", "ranks", "kernels", "runs with NaN", "95% interval", "NaN updates by seed", "final bits/dim"]
    return tabulate([[*cell, *_row(cells[cell])] for cell in order], headers, tablefmt="github", disable_numparse=True)


def _row(records: list[dict]) -> list[str]:
    counts = [record["nan_updates"] for record in records]
    hits = sum(count > 0 for count in counts)
    low, high = wilson(hits, len(records))
    finite = [bits for record in records if math.isfinite(bits := record["final"] / math.log(2))]
    final = f"median {median(finite or [math.nan]):.2f}, {len(records) - len(finite)} not finite"
    return [f"{hits}/{len(records)}", f"{low:.0%} to {high:.0%}", ", ".join(map(str, counts)), final]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.demonstration", description=__doc__, allow_abbrev=False)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:2])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS), help="of the CPU (default: all)")
    add_shared_options(parser, seeds=20, out="./saved_models/demonstration")
    return parser


if __name__ == "__main__":
    sys.exit(main())
