"""Show where a run's NaNs, high gradients and skipped updates came from: `python -m vdvae.inspect RUN [--json | --follow]`."""

import argparse
import contextlib
import json
import math
import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate

from vdvae.records.columns import Columns
from vdvae.records.lines import printable
from vdvae.records.run_counts import Windows
from vdvae.records.run_log import RunLog, read_run
from vdvae.records.step_report import REASONS

RANGES = 10
_WIDTH = 40  # characters of the longest bar
_EXTREMES = {"prior_log_sigma_min": np.min, "prior_log_sigma_max": np.max, "posterior_log_sigma_min": np.min,
             "posterior_log_sigma_max": np.max, "max_loc_diff_over_sigma": np.max}


def report(run: RunLog) -> dict:
    """Everything the command prints, as one JSON-able dict; losses in nats and bits per dimension."""
    final = run.final_nelbo
    return {
        "run": run.name,
        "parameterization": run.parameterization,
        "seed": run.seed,
        "dataset": run.hparams.get("dataset"),
        "last_step": run.last_step,
        "final_loss": {"nats_per_dim": final.nats_per_dim, "bits_per_dim": final.bits_per_dim, "split": final.split},
        "skipped_updates": run.counts["skipped_updates"],
        "nan_updates": run.counts["nan_updates"],
        "reasons": [_reason_row(run, reason) for reason in REASONS],
        "blocks": per_block(run.events),
        "other_origins": per_origin(run.events),
        "smallest_pixel_scale": smallest_pixel_scale(run.events),
        "over_time": over_time(run.windows),
        "block_bits": run.block_bits,
        "notes": run.notes,
    }


def per_block(events: Columns) -> list[dict]:
    """Events of each decoder block, the block with most events first, with its extreme figures.

    NaN figures do not enter an extreme; `nan_figures` counts the events that have one. A figure nobody logged is None.
    """
    groups = events.groups(np.flatnonzero(events.is_word("origin", "decoder")), "block", "resolution")
    return [{"block": events.value("block", rows[0]), "resolution": events.value("resolution", rows[0]),
             **_tally(events, rows), **_extremes(events, rows)} for rows in groups]


def per_origin(events: Columns) -> list[dict]:
    """Events of each origin outside the decoder, the one with most events first."""
    groups = events.groups(np.flatnonzero(~events.is_word("origin", "decoder")), "origin")
    return [{"origin": events.value("origin", rows[0]), **_tally(events, rows)} for rows in groups]


def smallest_pixel_scale(events: Columns) -> dict | None:
    """The pixel with the smallest log sigma of all events, NaN the first of all; None for a likelihood without scales."""
    rows = np.flatnonzero(~events.absent("pixel"))
    if not len(rows):
        return None
    log_sigmas = events["pixel_log_sigma"][rows]
    row = rows[np.argmin(np.where(np.isnan(log_sigmas), -np.inf, log_sigmas))]
    return {"pixel": events.value("pixel", row), "log_sigma": events["pixel_log_sigma"][row].item(),
            "step": int(events["step"][row])}


def over_time(windows: Windows) -> list[dict]:
    """The run cut in RANGES equal step ranges; figures of a range without a train_loss line are None.

    A line belongs to the range of its own step. Losses are the mean over the range's lines, in nats per dimension:
    `mean_loss` is not finite if one update's was not, `mean_finite_loss` is over finite updates.
    """
    if not windows:
        return []
    last = int(windows.step[-1])
    n = max(1, min(RANGES, last))
    edges = [-1] + [last * k // n for k in range(1, n + 1)]
    return [_range_row(low + 1, high, windows) for low, high in zip(edges, edges[1:])]


def render(report: dict) -> str:
    """The report as text for a terminal."""
    final = report["final_loss"]
    loss = f"{final['nats_per_dim']:.4f} nats/dim, {final['bits_per_dim']:.4f} bits/dim (split: {final['split']})"
    head = [
        *(f"{key.replace('_', ' ')}: {cell(report[key])}" for key in
          ("run", "parameterization", "seed", "dataset", "last_step")),
        f"final loss: {loss}",
        f"skipped updates: {cell(report['skipped_updates'])}, of them NaN: {cell(report['nan_updates'])}",
    ]
    pixel = report["smallest_pixel_scale"]
    if pixel:
        head.append(f"smallest scale of a pixel in an event: log sigma {cell(pixel['log_sigma'])} at row, column, channel "
                    f"{pixel['pixel']}, step {pixel['step']}")
    sections = {
        "Reasons": report["reasons"],
        "Decoder blocks (events are counted per rank and reason)": [_block_text(row) for row in report["blocks"]],
        "Other origins": report["other_origins"],
        "Over time": report["over_time"],
        "Rates of the decoder blocks, last evaluation": [
            {"block": block, "bits/dim": bits, "": _bar(bits, report["block_bits"])}
            for block, bits in enumerate(report["block_bits"] or [])
        ],
    }
    tables = [f"{title}\n{dict_table(rows) if rows else 'none'}" for title, rows in sections.items()]
    notes = [f"note: {note}" for note in report["notes"]]
    return "\n\n".join("\n".join(part) for part in (head, ["\n\n".join(tables)], notes) if part)


def dict_table(rows: list[dict]) -> str:
    """A text table with one line per dict, headed by the keys with blanks for underscores."""
    headers = [key.replace("_", " ") for key in rows[0]]
    cells = [[cell(value) for value in row.values()] for row in rows]
    return tabulate(cells, headers, tablefmt="simple", disable_numparse=True)


def cell(value: object) -> str:
    """A table cell: `-` for None, five significant digits for floats, `key count` pairs for dicts."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in value.items())
    return str(value)


def main(argv: list[str] | None = None) -> int:
    """Print the report on one run; returns 0, or 2 after one line on stderr if the run cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m vdvae.inspect", description="Where skipped updates came from.")
    parser.add_argument("run", metavar="RUN", help="a run folder (save_dir/desc) or a log.jsonl")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object, NaN as Python writes it")
    how.add_argument("--follow", action="store_true", help="watch the run until it is finished; Ctrl-C ends the watching")
    args = parser.parse_args(argv)
    if args.follow:
        return _follow(Path(args.run))
    try:
        run = read_run(args.run)
    except (OSError, ValueError) as error:
        return refuse("inspect", error)
    show(json.dumps(report(run), indent=1) if args.json else render(report(run)))
    return 0


def show(text: str) -> None:
    """Print a report; what a terminal would obey is escaped."""
    print("\n".join(map(printable, text.split("\n"))), flush=True)


def refuse(command: str, error: object) -> int:
    """Print one line on stderr; returns the exit code 2."""
    print(f"{command}: {printable(error)}", file=sys.stderr)
    return 2


def _follow(folder: Path) -> int:
    from rich.console import Console  # only --follow needs it

    from vdvae.tools.follow import follow

    if folder.exists() and not folder.is_dir():
        return refuse("inspect", f"--follow watches a run folder (save_dir/desc), {folder} is a file")
    with contextlib.suppress(KeyboardInterrupt):
        follow(folder, Console(markup=False, emoji=False))
    return 0


def _reason_row(run: RunLog, reason: str) -> dict:
    steps = run.events["step"][run.events.is_word("reason", reason)]
    return {
        "reason": reason,
        "updates": run.counts[reason],
        "first_step": int(steps.min()) if len(steps) else None,
        "last_step": int(steps.max()) if len(steps) else None,
    }


def _tally(events: Columns, rows: np.ndarray) -> dict:
    counts = {name: {events.value(name, group[0]): len(group) for group in events.groups(rows, name)} for name in ("reason", "quantity")}
    quantities = {word: count for word, count in counts["quantity"].items() if word}
    return {"events": len(rows), "reasons": counts["reason"], "quantities": quantities}


def _extremes(events: Columns, rows: np.ndarray) -> dict:
    figures = {name: events[name][rows] for name in _EXTREMES}
    with_nan = np.any([np.isnan(column) & ~events.absent(name)[rows] for name, column in figures.items()], axis=0)
    logged = {name: column[~np.isnan(column)] for name, column in figures.items()}
    return {name: pick(logged[name]).item() if len(logged[name]) else None for name, pick in _EXTREMES.items()} | {
        "nan_figures": int(with_nan.sum())}


def _bar(bits: float, all_bits: list[float]) -> str:
    largest = max(all_bits)
    return "#" * round(_WIDTH * max(bits / largest, 0)) if math.isfinite(sum(all_bits)) and largest > 0 else ""


def _block_text(row: dict) -> dict:
    """A block's row with each smallest and largest log sigma in one cell, so that the table fits a terminal."""
    return {
        **{key: row[key] for key in ("block", "resolution", "events", "reasons", "quantities")},
        "prior log sigma": f"{cell(row['prior_log_sigma_min'])} .. {cell(row['prior_log_sigma_max'])}",
        "posterior log sigma": f"{cell(row['posterior_log_sigma_min'])} .. {cell(row['posterior_log_sigma_max'])}",
        "|loc diff|/sigma": row["max_loc_diff_over_sigma"],
        "NaN figures": row["nan_figures"],
    }


def _range_row(first: int, last: int, windows: Windows) -> dict:
    inside = slice(*np.searchsorted(windows.step, (first, last + 1)))
    counts, norms = windows.summed(inside), windows.grad_norm[inside]
    return {
        "first_step": first,
        "last_step": last,
        "skipped_updates": counts["skipped_updates"],
        "nan_updates": counts["nan_updates"],
        "high_gradients": counts["high_grad"],
        "mean_loss": _mean(windows.loss[inside].tolist()),
        "mean_finite_loss": _mean(windows.finite_loss[inside].tolist()),
        "max_grad_norm": norms.max().item() if len(norms) else None,  # NaN if one is NaN
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
