"""The share of runs that failed, as text and as coloured cells."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.image import AxesImage

Cells = Sequence[Sequence[list[dict]]]  # the records of the runs of each cell, by row and column


def share(runs: list[dict]) -> float:
    """The share of failed runs; NaN without runs."""
    return sum(run["failed"] for run in runs) / len(runs) if runs else math.nan


def share_text(runs: list[dict]) -> str:
    """`2/3` where two of three runs failed; `-` without runs."""
    return f"{sum(run['failed'] for run in runs)}/{len(runs)}" if runs else "-"


def wilson(hits: int, runs: int) -> tuple[float, float]:
    """The 95% interval of a share of which `hits` of `runs` were seen (Wilson 1927)."""
    z = 1.959964
    centre, spread = hits + z * z / 2, z * math.sqrt(hits * (runs - hits) / runs + z * z / 4)
    return (centre - spread) / (runs + z * z), (centre + spread) / (runs + z * z)


def draw_cells(axes: Axes, cells: Cells, texts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str]) -> AxesImage:
    """A grid with a text in each cell, from green (no run failed) to red (all runs failed)."""
    shares = [[share(runs) for runs in row] for row in cells]
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn_r", aspect="auto", alpha=0.8)
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            axes.text(x, y, text, ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    return image
