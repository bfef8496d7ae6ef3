"""Did it help? In plain sentences: which parameterizations failed, with the counts of their runs."""

import math

from vdvae.records.run_log import parameterization
from vdvae.settings.table import STABLE
from vdvae.tools.report.table4 import spread_cell

RULE = "A run failed if an update was NaN or infinite, if it got stuck, or if its final loss is not finite."


def sentences(groups: list[dict]) -> list[str]:
    """One for each group of `report()["groups"]`, the rule of a failure, and what follows from all of them."""
    return [*map(_verdict, groups), RULE, *_conclusion(groups)]


def _verdict(group: dict) -> str:
    label, failed, runs = (group[key] for key in ("parameterization", "failed", "runs"))
    if failed is None:
        return f"{label}: whether runs failed is unknown, a log has no counts."
    return f"{label}: {failed} of {runs} runs failed, {_figures(group)}."


def _figures(group: dict) -> str:
    """The counts, and the loss where several seeds show how far losses differ by chance."""
    figures = [f"{words} {spread_cell(**group[key], digits=1)}"
               for key, words in (("nan_updates", "NaN updates"), ("skipped_updates", "skipped updates"))]
    if len(group["splits"]) == 1 and _has_spread(group["bits_per_dim"]):
        figures.append(f"{group['splits'][0]} bits/dim {spread_cell(**group['bits_per_dim'], digits=3)}")
    return ", ".join(figures)


def _has_spread(loss: dict) -> bool:
    return None not in loss.values() and all(map(math.isfinite, loss.values()))


def _conclusion(groups: list[dict]) -> list[str]:
    """The scales to take next, if runs failed and none had these scales."""
    stable = parameterization(STABLE)
    if all(group["failed"] == 0 for group in groups):
        return ["No run failed: this says nothing about stability."]
    if any(group["parameterization"].startswith(stable) for group in groups) or not any(group["failed"] for group in groups):
        return []
    return [f"Scales that bear higher learning rates: --stable, which is {stable} (experiments/EXPERIMENTS.md)."]
