"""The stability map as a table and as a picture: variants by learning rate, coloured by the share of failed runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from tabulate import tabulate

Results = Mapping[tuple, dict]  # (variant, lr, seed) to the run's record


def write_report(folder: Path, results: Results, variants: Sequence[str], lrs: Sequence[float], heading: str) -> str:
    """Write map.md and map.png into `folder`; returns the text."""
    text = f"{heading}\n\n{table(results, variants, lrs)}\n"
    (folder / "map.md").write_text(text)
    draw(results, variants, lrs).savefig(folder / "map.png", dpi=120)
    return text


def table(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> str:
    """Failed runs of all by variant and learning rate, and the largest rate up to which none failed."""
    rows = [[variant, *(_words(results, variant, lr) for lr in lrs), _largest(results, variant, lrs)] for variant in variants]
    headers = ["parameterization", *(f"lr {lr:g}" for lr in lrs), "no failure up to"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def share(results: Results, variant: str, lr: float) -> float:
    """Failed runs as a share of all, NaN where there are none."""
    failed = _failed(results, variant, lr)
    return sum(failed) / len(failed) if failed else math.nan


def draw(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> Figure:
    """The heat map."""
    figure = Figure(figsize=(3.2 + 0.95 * len(lrs), 1.3 + 0.36 * len(variants)), layout="constrained")
    axes = figure.subplots()
    shares = [[share(results, variant, lr) for lr in lrs] for variant in variants]
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn_r", aspect="auto", alpha=0.8)
    for row, variant in enumerate(variants):
        for column, lr in enumerate(lrs):
            axes.text(column, row, _words(results, variant, lr), ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(lrs)), [f"{lr:g}" for lr in lrs])
    axes.set_yticks(range(len(variants)), variants)
    axes.set_xlabel("learning rate")
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="share of failed runs")
    return figure


def _failed(results: Results, variant: str, lr: float) -> list[bool]:
    return [record["failed"] for key, record in results.items() if key[:2] == (variant, lr)]


def _words(results: Results, variant: str, lr: float) -> str:
    failed = _failed(results, variant, lr)
    return f"{sum(failed)}/{len(failed)}" if failed else "-"


def _largest(results: Results, variant: str, lrs: Sequence[float]) -> str:
    largest = "none"
    for lr in lrs:
        if share(results, variant, lr) != 0:
            break
        largest = f"{lr:g}"
    return largest
