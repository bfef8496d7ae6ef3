"""Put runs side by side as the paper's Table 4 does: `python -m vdvae.compare RUN RUN ... [--json] [--out FOLDER]`."""

import argparse
import importlib.util
import json
import math
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from vdvae.records.run_counts import skipped_steps
from vdvae.records.run_log import LABELLED, RunLog, read_run
from vdvae.records.step_report import REASONS
from vdvae.settings.table import Effect, settings_that_change
from vdvae.tools.inspect import cell, dict_table, refuse, show
from vdvae.tools.report.summary import sentences
from vdvae.tools.report.table4 import PAPER_TABLE_4, spread_cell

TABLE_4 = tuple(PAPER_TABLE_4)
COMPARED = [
    name for name in settings_that_change(Effect.MODEL, Effect.DATA, Effect.TRAINING, Effect.LENGTH, Effect.ROUNDING)
    if name not in (*LABELLED, "seed")  # runs differ in these on purpose
]
_NAMED_UP_TO = 4  # runs of one value in a warning


class Spread(NamedTuple):
    """Mean over runs and sample standard deviation (ddof = 1); std is None for one run, both are None if unknown."""

    mean: float | None
    std: float | None


def spread(values: list[float | None]) -> Spread:
    """Mean and sample standard deviation; a NaN among the values makes both NaN, a None makes both None."""
    if None in values:
        return Spread(None, None)
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None)
    return Spread(mean, math.sqrt(sum((value - mean) * (value - mean) for value in values) / (len(values) - 1)))


def report(runs: list[RunLog]) -> dict:
    """Groups by parameterization, single runs, warnings, notes, the verdict and the next command, as one JSON-able dict."""
    labels = {run.parameterization for run in runs}
    labels = [*(label for label in TABLE_4 if label in labels), *sorted(labels - {*TABLE_4})]
    groups = [_group_row([run for run in runs if run.parameterization == label]) for label in labels]
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    worst = max(runs, key=lambda run: run.counts["skipped_updates"] or 0)
    return {"groups": groups, "runs": [_run_row(run) for run in runs], "warnings": warnings(runs), "notes": notes,
            "verdict": sentences(groups), "next": shlex.join([_python(), "-m", "vdvae.inspect", worst.name])}


def warnings(runs: list[RunLog]) -> list[str]:
    """What makes the comparison unfair or unsound, a sentence each."""
    differing = {key: {run.name: run.hparams[key] for run in runs if key in run.hparams} for key in (*COMPARED, "mpi_size")}
    differing |= {
        "split": {run.name: run.final_nelbo.split for run in runs},
        "final step": {run.name: run.last_step for run in runs},
    }
    found = [f"runs differ in {key}: {_by_value(values)}" for key, values in differing.items()
             if any(value != next(iter(values.values())) for value in values.values())]
    pairs = Counter((run.parameterization, run.seed) for run in runs)
    found += [f"{n} runs have parameterization {label} and seed {seed}" for (label, seed), n in pairs.items() if n > 1]
    losses = {run.name: run.final_nelbo for run in runs}
    return found + [
        f"{name}: the final loss is {loss.nats_per_dim} (split: {loss.split})"
        for name, loss in losses.items() if not math.isfinite(loss.nats_per_dim)
    ]


def render(report: dict) -> str:
    """The report as text: the table of groups, warnings, the table of runs, notes, the verdict and the next command."""
    headers = ["parameterization", "runs", "seeds", "high gradients", "NaN updates", "skipped updates",
               "NELBO (nats/dim)", "bits/dim", "split"]
    groups = [_group_cells(group) for group in report["groups"]]
    parts = [
        [tabulate(groups, headers, tablefmt="github", disable_numparse=True)],
        [f"warning: {warning}" for warning in report["warnings"]],
        [dict_table(report["runs"])],
        [f"note: {note}" for note in report["notes"]],
        report["verdict"],
        [f"Next, where it began: {report['next']}"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def main(argv: list[str] | None = None) -> int:
    """Print the comparison and write the report folder if asked to; 2 after one line on stderr if either cannot be."""
    args = _parser().parse_args(argv)
    try:
        if args.out is not None:
            _check_out(args.out)
        runs = [read_run(run) for run in args.runs]
        compared = report(runs)
        if args.out is not None:
            from vdvae.tools.report.files import write_report  # imports matplotlib, which only --out needs

            write_report(args.out, runs, compared)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        return refuse("compare", error)
    show(json.dumps(compared, indent=1) if args.json else render(compared))
    if args.out is not None:
        print(f"picture: {args.out / 'verdict.png'}\nreport: {args.out / 'report.html'}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vdvae.compare", description="Runs side by side, as in Table 4.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder (save_dir/desc) or a log.jsonl")
    parser.add_argument("--json", action="store_true", help="print one JSON object, NaN as Python writes it")
    parser.add_argument("--out", metavar="FOLDER", type=Path,
                        help="write report.html, its figures, report.json and report.csv into this new folder")
    return parser


def _check_out(folder: Path) -> None:
    """Raise FileExistsError for a file or a folder with something in it, ModuleNotFoundError without matplotlib."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"--out {folder} exists already and is not an empty folder; name a new one")
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("--out draws its figures with matplotlib, which is not installed: "
                                  "pip install 'stable-vdvae[report]' or pip install 'matplotlib>=3.8'")


def _python() -> str:
    """This interpreter as one would type it here."""
    python = Path(sys.executable)
    return str(python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python)


def _group_row(runs: list[RunLog]) -> dict:
    spreads = {
        "high_gradients": [run.counts["high_grad"] for run in runs],
        "nan_updates": [run.counts["nan_updates"] for run in runs],
        "skipped_updates": [run.counts["skipped_updates"] for run in runs],
        "nelbo": [run.final_nelbo.nats_per_dim for run in runs],
        "bits_per_dim": [run.final_nelbo.bits_per_dim for run in runs],
    }
    failures = [_failed(run) for run in runs]
    return {
        "parameterization": runs[0].parameterization,
        "runs": len(runs),
        "failed": None if None in failures else sum(failures),
        "seeds": [run.seed for run in runs],
        **{name: spread(values)._asdict() for name, values in spreads.items()},
        "splits": sorted({run.final_nelbo.split for run in runs}),
    }


def _failed(run: RunLog) -> bool | None:
    """By summary.RULE; None where the log does not say."""
    if not math.isfinite(run.final_nelbo.nats_per_dim) or _is_stuck(run):
        return True
    return None if run.counts["nan_updates"] is None else run.counts["nan_updates"] > 0


def _is_stuck(run: RunLog) -> bool:
    """Whether the run's last updates were all skipped, as many as end a run."""
    limit, last, skipped = run.hparams.get("max_consecutive_skips"), run.last_step or 0, skipped_steps(run.events)
    first = (int(skipped[-1]) if len(skipped) else 0) - (limit or 0) + 1
    return bool(limit) and np.count_nonzero((first <= skipped) & (skipped <= last)) >= last - first + 1


def _group_cells(group: dict) -> list[str]:
    counts = [spread_cell(**group[name], digits=1) for name in ("high_gradients", "nan_updates", "skipped_updates")]
    losses = [spread_cell(**group[name], digits=3) for name in ("nelbo", "bits_per_dim")]
    seeds = ", ".join(cell(seed) for seed in group["seeds"])
    return [group["parameterization"], str(group["runs"]), seeds, *counts, *losses, ", ".join(group["splits"])]


def _run_row(run: RunLog) -> dict:
    final = run.final_nelbo
    return {
        "run": run.name,
        "seed": run.seed,
        "parameterization": run.parameterization,
        "steps": run.last_step,
        "skipped_updates": run.counts["skipped_updates"],
        **{reason: run.counts[reason] for reason in REASONS},
        "nelbo": final.nats_per_dim,
        "bits_per_dim": final.bits_per_dim,
        "split": final.split,
    }


def _by_value(values: dict[str, object]) -> str:
    """`384 (runs/a); 512 (runs/b)`; of many runs only those are named whose value is not the commonest one."""
    names = {}
    for name, value in values.items():
        names.setdefault(str(value), []).append(name)
    commonest = max(names, key=lambda value: len(names[value]))
    named = {value: ", ".join(of_value) for value, of_value in names.items()}
    if len(names[commonest]) > _NAMED_UP_TO:
        named[commonest] = f"the other {len(names[commonest])} runs"
    return "; ".join(f"{value} ({text})" for value, text in named.items())
