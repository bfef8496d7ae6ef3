"""Table 3 in the paper's layout with the paper's figures beside ours, and a picture of the validation curves."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from experiments.mlp_vae.model import SCALES
from stable_params.pixels import MEANS
from vdvae.tools.compare import spread
from vdvae.tools.report.figure2 import line_styles
from vdvae.tools.report.table4 import spread_cell

PAPER = {
    "NaiveExp": ("5.35 ± 0.05", "100% NaN"),
    "Exp": ("5.36 ± 0.06", "100% NaN"),
    "UpBounded1": ("5.25 ± 0.02", "100% NaN"),
    "DownBounded": ("5.30 ± 0.06", "4.56 ± 0.07"),
    "Bounded": ("5.05 ± 0.07", "4.56 ± 0.05"),
    "Global": ("6.67 ± 0.004", "6.06 ± 0.02"),
}
Results = Mapping[tuple, dict]  # (scale, mean, seed) to the run's record


def write_report(folder: Path, results: Results, settings: dict) -> str:
    """Write table3.md and table3.png into `folder`; returns the text of the table."""
    text = "\n\n".join([_heading(settings), table(results, settings), _nan_table(results)]) + "\n"
    (folder / "table3.md").write_text(text)
    draw(results).savefig(folder / "table3.png", dpi=120)
    return text


def table(results: Results, settings: dict) -> str:
    """A row for each scale; two columns for each mean head, ours and the paper's."""
    measure = "importance_weighted_test" if settings["importance_samples"] else "test"
    rows = [[scale, *(text for mean, paper in zip(MEANS, PAPER[scale])
                      for text in (cell_text(_runs(results, scale, mean), measure), paper))] for scale in SCALES]
    headers = ["γ", *(text for mean in MEANS for text in (f"mean: {mean}", "paper"))]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def cell_text(runs: list[dict], measure: str) -> str:
    """Mean ± standard deviation of the runs without a NaN; the share of runs with one, and their best models before it."""
    whole = [float(run[measure]) for run in runs if not run["nan_step"]]
    broken = [float(run[measure]) for run in runs if run["nan_step"] and run["selected_epoch"]]
    share = sum(bool(run["nan_step"]) for run in runs) / max(len(runs), 1)
    parts = [_spread(whole)] if whole else []
    if share:
        before = f" ({_spread(broken)} before)" if broken else ""
        parts.append(f"{100 * share:.0f}% NaN{before}")
    return ", ".join(parts) or "-"


def draw(results: Results) -> Figure:
    """Validation NLL against epochs: a panel for each mean head, a line for each run, a cross at its first NaN."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    styles = line_styles(list(SCALES))
    panels = figure.subplots(1, 2, sharey=True)
    lowest = [min(finite) for run in results.values() if (finite := _finite(run["valid_curve"]))]
    limits = (min(lowest, default=4) - 0.3, 10.0)
    for mean, axes in zip(MEANS, panels):
        _draw_panel(axes, mean, results, styles, limits)
    panels[0].set_ylabel("validation NLL (bits per dimension, 0..255)")
    handles = [panels[0].plot([], [], **styles[scale])[0] for scale in SCALES]
    figure.legend(handles, SCALES, loc="outside lower center", ncols=len(SCALES), frameon=False)
    return figure


def _draw_panel(axes: Axes, mean: str, results: Results, styles: dict, limits: tuple[float, float]) -> None:
    for (scale, head, _), run in results.items():
        if head == mean:
            curve = [float(value) for value in run["valid_curve"]]
            axes.plot(range(1, len(curve) + 1), curve, **styles[scale], linewidth=1, alpha=0.8)
            if run["nan_epoch"]:
                axes.plot(run["nan_epoch"], limits[1], "x", color=styles[scale]["color"], clip_on=False)
    axes.set(xlabel="epoch", ylim=limits)
    axes.set_title(f"mean: {mean} (× first NaN; lines leave the axis above {limits[1]:g})", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _heading(settings: dict) -> str:
    estimate = (f"importance-weighted bound, {settings['importance_samples']} draws"
                if settings["importance_samples"] else "negative ELBO")
    return (f"# Table 3\n\nMNIST test NLL ({estimate}), bits per dimension on the scale 0..255, "
            f"mean ± standard deviation over seeds; {settings['epochs']} epochs of batch {settings['batch_size']}, the "
            "paper's 1000. NaN: a training loss was not finite; in brackets the best validated models before it.")


def _nan_table(results: Results) -> str:
    rows = [[scale, mean, seed, run["nan_epoch"], run["nan_step"], run["selected_epoch"] or "none", run["test"]]
            for (scale, mean, seed), run in sorted(results.items()) if run["nan_step"]]
    headers = ["γ", "mean", "seed", "epoch of the first NaN", "step", "epoch selected", "its test NLL"]
    return tabulate(rows, headers, tablefmt="github") if rows else "No run had a NaN."


def _runs(results: Results, scale: str, mean: str) -> list[dict]:
    return [run for (run_scale, run_mean, _), run in results.items() if (run_scale, run_mean) == (scale, mean)]


def _spread(values: list[float]) -> str:
    return spread_cell(*spread(values), digits=2)


def _finite(values: list) -> list[float]:
    return [float(value) for value in values if not isinstance(value, str)]
