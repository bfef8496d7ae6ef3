"""What figure 2 draws of a run: its negative ELBO and its skipped updates, step by step."""

import math
import statistics
from itertools import accumulate
from typing import NamedTuple

from vdvae.records.run_log import RunLog

_FENCE = 3  # interquartile ranges above the upper quartile: first and blown-up losses would flatten all others
_LEAST = 0.1  # of the upper quartile, so that a flat run does not show its last digits
_MARGIN = 0.05


class Curve(NamedTuple):
    """`steps[i]` and `values[i]` belong together."""

    steps: list[int]
    values: list[float]


def nelbo_curve(run: RunLog) -> Curve:
    """Bits per dimension, the mean over the finite updates of each log window; NaN where it has none."""
    return Curve([window.step for window in run.windows], [window.finite_loss / math.log(2) for window in run.windows])


def skipped_curve(run: RunLog) -> Curve:
    """Skipped updates since the run began, from the log's windows, else from the steps of its events."""
    if run.windows:
        counts = [window.counts["skipped_updates"] for window in run.windows]
        return Curve([window.step for window in run.windows], list(accumulate(counts)))
    steps = sorted({event["step"] for event in run.events if event.get("skipped", True)})
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
