"""The rate of each decoder block: which latents carry information, a panel for each parameterization."""

from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdvae.records.run_log import RunLog
from vdvae.tools.report.figure2 import LARGEST, line_styles

_COLUMNS = 2


def draw_rates(runs: list[RunLog], labels: list[str]) -> Figure | None:
    """Bars of the mean over seeds, lines from the smallest to the largest seed, bits per dimension; None without any rates.

    Runs whose logs have no rates, older ones and the original code's, are left out, and so are rates that are not
    finite, which the panel's title counts.
    """
    groups = {label: [run for run in runs if run.parameterization == label and run.block_bits] for label in labels}
    groups = {label: group for label, group in groups.items() if group}
    if not groups:
        return None
    rows = -(-len(groups) // _COLUMNS)
    figure = Figure(figsize=(11, 0.6 + 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, min(_COLUMNS, len(groups)), squeeze=False, sharey=True).flatten()
    styles = line_styles(labels)
    for axes, (label, group) in zip(panels, groups.items()):
        _draw_panel(axes, label, group, styles[label]["color"])
    for axes in panels[len(groups):]:
        axes.set_axis_off()
    return figure


def _draw_panel(axes: Axes, label: str, group: list[RunLog], colour: str) -> None:
    columns = list(zip(*(run.block_bits for run in group if all(abs(bits) < LARGEST for bits in run.block_bits))))
    shown = len(columns[0]) if columns else 0
    means = [sum(column) / shown for column in columns]
    spans = [[mean - min(column) for mean, column in zip(means, columns)],
             [max(column) - mean for mean, column in zip(means, columns)]]
    axes.bar(range(len(means)), means, yerr=spans if shown > 1 else None, color=colour, error_kw={"linewidth": 0.7})
    left_out = f", {len(group) - shown} with a rate that is not finite left out" if shown < len(group) else ""
    axes.set_title(f"{label} ({shown} run{'' if shown == 1 else 's'}{left_out})", fontsize=9, loc="left")
    axes.set_ylabel("rate (bits/dim)", fontsize=8)
    _mark_resolutions(axes, group[0].decoder_resolutions)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_resolutions(axes: Axes, resolutions: list[int]) -> None:
    """The image size under the blocks that work at it."""
    ticks, start = [], 0
    for resolution, blocks in groupby(resolutions):
        count = len(list(blocks))
        ticks.append((start + (count - 1) / 2, f"{resolution}x{resolution}"))
        start += count
        axes.axvline(start - 0.5, color="#cccccc", linewidth=0.7, zorder=0)
    axes.set_xticks([place for place, _ in ticks], [name for _, name in ticks])
    axes.set_xlabel("decoder blocks in order, by image size", fontsize=8)
