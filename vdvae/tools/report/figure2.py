"""Figure 2: negative ELBO and cumulative skipped updates against steps, one colour a parameterization."""

import math
import statistics
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vdvae.records.run_counts import skipped_steps
from vdvae.records.run_log import RunLog

LARGEST = 1e100  # far above it the arithmetic of an axis overflows
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")
_FENCE = 3  # interquartile ranges above the upper quartile: first and blown-up losses would flatten all others
_LEAST = 0.1  # of the upper quartile, so that a flat run does not show its last digits
_MARGIN = 0.05
_DOTTED_UP_TO = 100  # log lines; dots show a lone one between two gaps, and hide the lines where there are more
_BAND_ROW = 0.035  # of the axis
_LINEAR_UP_TO = 10  # skipped updates; above that the axis is logarithmic, as counts run from 1 to thousands


class Curve(NamedTuple):
    """`steps[i]` and `values[i]` belong together."""

    steps: list[int]
    values: list[float]


def draw_figure2(runs: list[RunLog], labels: list[str]) -> Figure:
    """Both panels, a line a run; `labels` are the parameterizations in the order of the legend."""
    figure = Figure(figsize=(11, 4.4 + 0.22 * -(-len(labels) // 3)), layout="constrained")
    loss, skipped = figure.subplots(1, 2)
    styles = line_styles(labels)
    draw_nelbo(loss, runs, styles)
    _draw_skipped(skipped, runs, styles)
    counts = {label: sum(run.parameterization == label for run in runs) for label in labels}
    handles = [skipped.plot([], [], **styles[label])[0] for label in labels]
    names = [f"{label} ({count} run{'s' if count > 1 else ''})" for label, count in counts.items()]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_nelbo(axes: Axes, runs: list[RunLog], styles: dict[str, dict]) -> None:
    """The losses of all runs on one axis, and marks above it where a loss is too high for it or not finite."""
    curves = [nelbo_curve(run) for run in runs]
    limits = axis_limits(curves)
    if limits:
        for run, curve in zip(runs, curves):
            _draw_line(axes, within(curve, limits[1]), styles[run.parameterization])
        _draw_band(axes, runs, curves, limits, styles)
    else:
        axes.text(0.5, 0.5, "no finite training loss in the logs", transform=axes.transAxes, ha="center")
    _finish(axes, "training NELBO (bits per dimension)", "NELBO, mean over the finite updates since the last log line")


def _draw_line(axes: Axes, curve: Curve, style: dict[str, str]) -> None:
    few = len(curve.steps) <= _DOTTED_UP_TO
    axes.plot(*curve, **style, linewidth=1.2 if few else 0.8, marker="." if few else "", markersize=3, alpha=0.85)


def _draw_band(axes: Axes, runs: list[RunLog], curves: list[Curve], limits: tuple[float, float], styles: dict) -> None:
    """Triangles in a grey band above the curves, a line of them for each parameterization, where a loss is too high."""
    low, high = limits
    row = _BAND_ROW * (high - low)
    for run, curve in zip(runs, curves):
        steps, line = beyond(curve, high), list(styles).index(run.parameterization)
        colour = styles[run.parameterization]["color"]
        axes.plot(steps, [high + (line + 0.5) * row] * len(steps), "^", color=colour, markersize=4)
    top = high + len(styles) * row
    axes.axhspan(high, top, color="#eeeeee", zorder=0)
    axes.set_ylim(low, top)
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])


def _draw_skipped(axes: Axes, runs: list[RunLog], styles: dict[str, dict]) -> None:
    curves = [skipped_curve(run) for run in runs]
    for run, curve in zip(runs, curves):
        _draw_line(axes, curve, styles[run.parameterization])
    most = max((value for curve in curves for value in curve.values), default=0)
    if most > 10 * _LINEAR_UP_TO:
        axes.set_yscale("symlog", linthresh=_LINEAR_UP_TO)
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=-0.03 * min(max(most, 1), _LINEAR_UP_TO))
    _finish(axes, "skipped updates so far (count)", "Cumulative skipped updates")


def _finish(axes: Axes, label: str, title: str) -> None:
    axes.set(xlabel="step (updates)", ylabel=label)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def nelbo_curve(run: RunLog) -> Curve:
    """Bits per dimension, the mean over the finite updates of each log window; NaN where it has none, or is above LARGEST."""
    bits = run.windows.finite_loss / math.log(2)
    return Curve(run.windows.step.tolist(), np.where(abs(bits) < LARGEST, bits, math.nan).tolist())


def skipped_curve(run: RunLog) -> Curve:
    """Skipped updates since the run began, from the log's windows, else from the steps of its events."""
    if run.windows:
        return Curve(run.windows.step.tolist(), run.windows.counts["skipped_updates"].cumsum().tolist())
    steps = skipped_steps(run.events).tolist()
    return Curve(steps, list(range(1, len(steps) + 1)))


def axis_limits(curves: list[Curve]) -> tuple[float, float] | None:
    """Lower and upper end of an axis for the finite values without those far above the others; None without any."""
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    if not values:
        return None
    low, high = min(values), max(values)
    if len(values) > 1:
        first, _, third = statistics.quantiles(values, method="inclusive")
        high = min(high, third + max(_FENCE * (third - first), _LEAST * abs(third)))
    margin = _MARGIN * ((high - low) or abs(high) or 1)
    return low - margin, high + margin


def within(curve: Curve, upper: float) -> Curve:
    """The curve with a gap, NaN, where its value is above the axis."""
    return Curve(curve.steps, [value if value <= upper else math.nan for value in curve.values])


def beyond(curve: Curve, upper: float) -> list[int]:
    """Steps whose value is above the axis or not finite."""
    return [step for step, value in zip(*curve) if not value <= upper]


def line_styles(labels: list[str]) -> dict[str, dict[str, str]]:
    """Matplotlib's `color` and `linestyle` for each label; the colours begin again with a dashed line after seven."""
    return {
        label: {"color": _COLOURS[n % len(_COLOURS)], "linestyle": _STYLES[n // len(_COLOURS) % len(_STYLES)]}
        for n, label in enumerate(labels)
    }
