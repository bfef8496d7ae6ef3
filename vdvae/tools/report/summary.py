"""Did it help? Which parameterizations failed, in plain sentences, each beside the baseline."""

import math

from vdvae.records.run_log import parameterization
from vdvae.settings.table import STABLE
from vdvae.tools.report.table4 import spread_cell

BASELINES = ("vanilla", "original")
RULE = "A run failed if an update was NaN or infinite, if it got stuck, or if its final loss is not finite."
_COUNTED = {"nan_updates": "NaN updates", "skipped_updates": "skipped updates"}


def sentences(groups: list[dict]) -> list[str]:
    """One for each group of `report()["groups"]` but the baseline (vanilla, else the original); none without a baseline."""
    by_label = {group["parameterization"]: group for group in groups}
    label = next((name for name in BASELINES if name in by_label), None)
    others = [group for group in groups if group["parameterization"] != label]
    if label is None or not others:
        return []
    verdicts = [f"{_verdict(group, by_label[label])} {_counts(group, by_label[label])}" for group in others]
    return [*verdicts, RULE, *_recommendation(by_label)]


def _verdict(group: dict, base: dict) -> str:
    if None in (group["failed"], base["failed"]):
        return f"Whether {base['parameterization']} or {group['parameterization']} failed is unknown: a log has no counts."
    if group["failed"] and base["failed"]:
        return f"Both failed: {_failures(base)}, {_failures(group)}."
    if not group["failed"] and not base["failed"]:
        return f"No run failed ({base['parameterization']}, {group['parameterization']}): this says nothing about stability."
    failed, other = (base, group) if base["failed"] else (group, base)
    return f"Failed: {_failures(failed)}. {other['parameterization']} in none of {other['runs']}."


def _recommendation(by_label: dict[str, dict]) -> list[str]:
    """The scales to take next, if runs failed and none had these scales."""
    stable = parameterization(STABLE)
    if any(label.startswith(stable) for label in by_label) or not any(group["failed"] for group in by_label.values()):
        return []
    return [f"The scales that bore the most: --stable, which is {stable} (experiments/EXPERIMENTS.md)."]


def _failures(group: dict) -> str:
    return f"{group['parameterization']} in {group['failed']} of {group['runs']} runs"


def _counts(group: dict, base: dict) -> str:
    """Both groups' counts, and their losses where several seeds show how far losses differ by chance."""
    figures = [f"{words} {_pair(base, group, key, 1)}" for key, words in _COUNTED.items()]
    losses = group["bits_per_dim"], base["bits_per_dim"]
    if group["splits"] == base["splits"] and all(map(_has_spread, losses)):
        figures.append(f"bits/dim {_pair(base, group, 'bits_per_dim', 3)}")
    return f"{base['parameterization']} and {group['parameterization']}: {', '.join(figures)}."


def _pair(base: dict, group: dict, key: str, digits: int) -> str:
    return " and ".join(spread_cell(**one[key], digits=digits) for one in (base, group))


def _has_spread(loss: dict) -> bool:
    return None not in loss.values() and all(map(math.isfinite, loss.values()))
