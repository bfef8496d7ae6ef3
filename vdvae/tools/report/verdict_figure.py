"""The picture of the verdict: the loss of all runs on one axis, and below it the updates that each run skipped."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdvae.records.run_log import RunLog
from vdvae.records.step_report import NAN_REASONS
from vdvae.tools.report.figure2 import draw_nelbo, line_styles

_NAMED_UP_TO = 20  # rows; the names of more would cover each other
_NAN, _HIGH = "#000000", "#b0b0b0"


def draw_verdict(runs: list[RunLog], labels: list[str]) -> Figure:
    """Losses above; below a row a run with a mark at each skipped update, black where it was NaN or infinite."""
    runs = sorted(runs, key=lambda run: labels.index(run.parameterization))
    rows = 0.16 * max(len(runs), 5)
    figure = Figure(figsize=(10, 3.4 + rows), layout="constrained")
    loss, marks = figure.subplots(2, sharex=True, height_ratios=(3, rows))
    styles = line_styles(labels)
    draw_nelbo(loss, runs, styles)
    loss.set_xlabel("")
    _draw_marks(marks, runs, styles)
    handles = [loss.plot([], [], **styles[label], label=label)[0] for label in labels]
    handles += [loss.plot([], [], "|", color=colour, label=name, markersize=9)[0]
                for name, colour in (("skipped: NaN or infinite", _NAN), ("skipped: high gradient", _HIGH))]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def skipped_steps(run: RunLog) -> dict[int, bool]:
    """Steps of skipped updates, and whether the update was NaN or infinite; log lines stand for them where there are no events."""
    if run.events:
        skipped = run.events["skipped"] != 0
        is_nan = np.any([run.events.is_word("reason", reason) for reason in NAN_REASONS], axis=0)
        steps = run.events["step"]
    elif run.windows:
        steps, skipped, is_nan = run.windows.step, run.windows.counts["skipped_updates"] > 0, run.windows.counts["nan_updates"] > 0
    else:
        return {}
    nan_steps = set(steps[skipped & is_nan].tolist())
    return {step: step in nan_steps for step in steps[skipped].tolist()}


def _draw_marks(axes: Axes, runs: list[RunLog], styles: dict[str, dict]) -> None:
    names = []
    for row, run in enumerate(runs):
        steps = skipped_steps(run)
        for colour, is_nan in ((_HIGH, False), (_NAN, True)):
            axes.vlines([step for step, nan in steps.items() if nan is is_nan], row - 0.4, row + 0.4, colour, linewidth=1)
        names.append(f"{run.parameterization}, seed {run.seed}: {run.counts['skipped_updates']} skipped")
    named = len(runs) <= _NAMED_UP_TO
    axes.set_yticks(range(len(runs)) if named else [], names if named else [], fontsize=8)
    for tick, run in zip(axes.get_yticklabels(), runs):
        tick.set_color(styles[run.parameterization]["color"])
    axes.set(ylim=(len(runs) - 0.4, -0.6), xlabel="step (updates)")
    axes.spines[["top", "right"]].set_visible(False)
