"""The skip map: events counted by where they started and when, drawn as one panel a parameterization."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from vdvae.records.columns import Columns
from vdvae.records.run_log import RunLog

BINS = 40
_BEFORE, _AFTER = ("encoder",), ("likelihood", "unknown")
_COLUMNS = 2
_ROW_INCHES, _MOST_ROWS, _MOST_TICKS = 0.16, 60, 30
_COLOURS = "viridis_r"


class SkipMap(NamedTuple):
    """Counts `[rows, bins]`; bin i holds the steps from `edges[i]` up to, without the last bin's end, `edges[i + 1]`.

    Rows run in forward order: encoder, decoder blocks, likelihood, origin unknown.
    """

    rows: list[str]
    edges: list[float]
    counts: list[list[int]]

    @property
    def total(self) -> int:
        """All events counted."""
        return sum(map(sum, self.counts))


def skip_map(runs: list[RunLog], last_step: int) -> SkipMap:
    """Events of all runs from step 0 to last_step; a log without events adds its skipped updates to origin unknown."""
    resolutions = _resolutions(runs)
    rows = [*_BEFORE, *(_block_row(block, resolution) for block, resolution in sorted(resolutions.items())), *_AFTER]
    counts = np.zeros((len(rows), BINS), np.int64)
    for run in runs:
        for origin, steps, updates in _places(run, resolutions):
            bins = np.minimum(steps.astype(np.int64) * BINS // (last_step + 1), BINS - 1)
            np.add.at(counts[rows.index(origin)], bins, updates)
    return SkipMap(rows, [bin * (last_step + 1) / BINS for bin in range(BINS + 1)], counts.tolist())


def _places(run: RunLog, resolutions: dict[int, int | None]) -> list[tuple[str, np.ndarray, int | np.ndarray]]:
    """Rows, and steps and counts of the run's events there, or of its windows if it has no events."""
    if run.events:
        groups = run.events.groups(np.arange(len(run.events)), "origin", "block")
        return [(_row(run.events, group[0], resolutions), run.events["step"][group], 1) for group in groups]
    return [("unknown", run.windows.step, run.windows.counts["skipped_updates"].astype(np.int64))]


def _row(events: Columns, event: int, resolutions: dict[int, int | None]) -> str:
    origin, block = events.value("origin", event), events.value("block", event)
    if origin == "decoder" and block is not None:
        return _block_row(block, resolutions[block])
    return origin if origin in _BEFORE + _AFTER else "unknown"


def _block_row(block: int, resolution: int | None) -> str:
    return f"block {block}" if resolution is None else f"block {block} ({resolution}²)"


def _resolutions(runs: list[RunLog]) -> dict[int, int | None]:
    """Decoder blocks to resolutions, from the runs' dec_blocks and from their events."""
    found = {}
    for run in runs:
        groups = run.events.groups(np.flatnonzero(~run.events.absent("block")), "block", "resolution")
        named = [(run.events.value("block", group[0]), run.events.value("resolution", group[0])) for group in reversed(groups)]
        found |= dict(enumerate(run.decoder_resolutions)) | dict(named)
    return found


def draw_skip_map(maps: dict[str, SkipMap]) -> Figure:
    """A panel for each parameterization with events, on one colour scale; those without are named in the title."""
    shown = {label: one for label, one in maps.items() if one.total}
    quiet = [label for label in maps if label not in shown]
    rows = [min(len(one.rows), _MOST_ROWS) for one in shown.values()]
    heights = [0.8 + _ROW_INCHES * max(rows[first:first + _COLUMNS]) for first in range(0, len(rows), _COLUMNS)]
    figure = Figure(figsize=(11, 0.8 + sum(heights)), layout="constrained")
    figure.suptitle("Events by origin and time" + (f"\nno events: {', '.join(quiet)}" if quiet else ""), fontsize=10)
    if shown:
        _draw_panels(figure, shown, heights)
    return figure


def _draw_panels(figure: Figure, maps: dict[str, SkipMap], heights: list[float]) -> None:
    most = max(max(map(max, one.counts)) for one in maps.values())
    norm = LogNorm(0.9, max(most, 2))
    columns = min(_COLUMNS, len(maps))
    panels = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flatten()
    for axes, (label, one) in zip(panels, maps.items()):
        _draw_panel(axes, label, one, norm)
    for axes in panels[len(maps):]:
        axes.set_axis_off()
    # LogFormatter labels the ticks between powers of ten too, where there is room.
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=list(panels), label="events (count)",
                          format=LogFormatter(), shrink=1 / len(heights), anchor=(0, 1))
    bar.ax.yaxis.set_minor_formatter(LogFormatter())


def _draw_panel(axes: Axes, label: str, one: SkipMap, norm: LogNorm) -> None:
    axes.pcolormesh(one.edges, range(len(one.rows) + 1), one.counts, norm=norm, cmap=_COLOURS)
    axes.set_facecolor("#f4f4f4")
    axes.invert_yaxis()
    every = -(-len(one.rows) // _MOST_TICKS)
    ticks = [n for n, row in enumerate(one.rows) if not row.startswith("block") or n % every == 0]
    axes.set_yticks([n + 0.5 for n in ticks], [one.rows[n] for n in ticks], fontsize=7)
    axes.set_xlabel("step (updates)", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(f"{label}: {one.total} event{'s' if one.total > 1 else ''}", fontsize=9, loc="left")
