"""A map of runs: variants by learning rate, as a figure, and the largest rate without a failure."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from experiments.shared.failed_runs import draw_cells, share, share_text

Results = Mapping[tuple[str, float, int], dict]  # (variant, learning rate, seed) to a record, which has `failed`


def cells(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> list[list[list[dict]]]:
    """The runs of each variant (rows) and rate (columns), in the order of the seeds."""
    return [[[results[key] for key in sorted(results) if key[:2] == (variant, lr)] for lr in lrs] for variant in variants]


def largest_rate(of_rates: Sequence[list[dict]], lrs: Sequence[float]) -> str:
    """The largest of the ascending rates up to which no run failed, or `none`."""
    largest = "none"
    for runs, lr in zip(of_rates, lrs):
        if share(runs) != 0:
            break
        largest = f"{lr:g}"
    return largest


def draw_map(results: Results, variants: Sequence[str], lrs: Sequence[float]) -> Figure:
    """Variants by learning rate, coloured by the share of failed runs."""
    figure = Figure(figsize=(3.8 + 0.95 * len(lrs), 1.3 + 0.36 * len(variants)), layout="constrained")
    axes, runs = figure.subplots(), cells(results, variants, lrs)
    image = draw_cells(axes, runs, [list(map(share_text, row)) for row in runs], variants, [f"{lr:g}" for lr in lrs])
    axes.set_xlabel("learning rate")
    figure.colorbar(image, ax=axes, label="share of failed runs")
    return figure
