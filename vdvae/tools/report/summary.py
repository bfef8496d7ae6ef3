"""Did it help? Each parameterization against the baseline, in a sentence."""

import math

from vdvae.tools.report.table4 import spread_cell

BASELINES = ("vanilla", "original")
_COUNTED = {"skipped_updates": "skipped updates", "nan_updates": "NaN updates"}


def sentences(groups: list[dict]) -> list[str]:
    """One for each group of `report()["groups"]` but the baseline (vanilla, else the original); none without one."""
    by_label = {group["parameterization"]: group for group in groups}
    label = next((name for name in BASELINES if name in by_label), None)
    if label is None:
        return []
    return [_sentence(group, by_label[label]) for group in groups if group["parameterization"] != label]


def _sentence(group: dict, base: dict) -> str:
    counts = [f"{spread_cell(**group[key], digits=1)} {words} ({spread_cell(**base[key], digits=1)})"
              for key, words in _COUNTED.items()]
    ours, theirs = (spread_cell(**one["bits_per_dim"], digits=3) for one in (group, base))
    name, against = group["parameterization"], base["parameterization"]
    return f"{name} (in brackets: {against}): {', '.join(counts)}, {ours} bits/dim ({theirs}): {_verdict(group, base)}."


def _verdict(group: dict, base: dict) -> str:
    """The difference of the mean bits per dimension, and whether it is more than the seeds' own spread."""
    ours, theirs = group["bits_per_dim"], base["bits_per_dim"]
    if group["splits"] != base["splits"]:
        splits = " and ".join("/".join(one["splits"]) for one in (group, base))
        return f"the losses are of different splits ({splits}), so they do not compare"
    if not (_finite(ours["mean"]) and _finite(theirs["mean"])):
        return "a run without a finite loss is among them, so the losses do not compare"
    difference = ours["mean"] - theirs["mean"]
    said = f"the loss is {'lower' if difference < 0 else 'higher'} by {abs(difference):.3f}"
    if ours["std"] is None or theirs["std"] is None:
        return f"{said}; with one seed that says little"
    largest = max(ours["std"], theirs["std"])
    size = "more" if abs(difference) > largest else "no more"
    return f"{said}, {size} than the larger standard deviation of {largest:.3f}"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
