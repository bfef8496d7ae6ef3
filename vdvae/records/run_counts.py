"""Count skipped updates by reason from train_loss lines and events, each update once."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from vdvae.records.step_report import NAN_REASONS, REASONS

TOTAL_KEYS = {  # what is counted -> the key of its cumulative count in a train line
    "skipped_updates": "total_skipped_updates",
    "nan_updates": "total_nan_updates",
    "rate_nan": "total_rate_nans",
    "distortion_nan": "total_distortion_nans",
    "grad_nan": "total_grad_nans",
    "high_grad": "total_high_grads",
}
COUNT_NAMES = tuple(TOTAL_KEYS)

Counts = dict[str, int | None]  # updates by COUNT_NAMES; None where the log does not say


@dataclass(frozen=True)
class Window:
    """One train_loss line's figures on the updates since the line before it; losses in nats per dimension.

    `loss` is not finite if one update's loss was not. `finite_loss` is the mean of the finite ones, `grad_norm` the largest.
    """

    step: int
    counts: Counts
    loss: float
    finite_loss: float
    grad_norm: float


def own_windows(train: list[dict]) -> tuple[list[Window], list[str]]:
    """Disjoint windows of this project's train_loss lines, and notes; the counts sum to the last line's `total_*`.

    Lines without `total_*` (a run that the original code began) are left out. Where a run went back to a checkpoint, the
    totals of earlier lines are lowered to those of later lines.
    """
    counted = [line for line in train if "total_skipped_updates" in line]
    lines = _one_per_step(counted, lambda earlier, later: later)
    totals = [{name: line[key] for name, key in TOTAL_KEYS.items()} for line in lines]
    notes = _notes_on_own(train, counted)
    for earlier, later in reversed(list(pairwise(totals))):
        earlier.update({name: min(earlier[name], later[name]) for name in COUNT_NAMES})
    neighbours = pairwise([dict.fromkeys(COUNT_NAMES, 0), *totals])
    counts = [{name: now[name] - before[name] for name in COUNT_NAMES} for before, now in neighbours]
    return [_window(line, count) for line, count in zip(lines, counts)], notes


def original_windows(train: list[dict], iters_per_print: int) -> tuple[list[Window], list[str]]:
    """Disjoint windows of the original code's train_loss lines, and notes on what the lines do not say.

    Each of its lines covers the last `iters_per_print` updates, so only those at a multiple of it are taken, and of
    several at one step the one that counts most skipped updates. Raises ValueError for an iters_per_print below 1.
    """
    if not isinstance(iters_per_print, int) or iters_per_print < 1:
        raise ValueError(f"hyper-parameter iters_per_print is {iters_per_print!r}, a whole number from 1 is needed")
    aligned = [line for line in train if line["step"] % iters_per_print == 0]
    lines = _one_per_step(aligned, lambda *pair: max(pair, key=lambda line: line["skipped_updates"]))
    notes = [
        "the original code's log: it has no sigma_param, no events (so no blocks, no log sigmas, no first and last "
        "step of a reason) and no count of NaN gradients, which are among the high gradients here",
        "NaN updates are estimated as the larger of distortion_nans and rate_nans in each window; these are means over "
        "ranks, so with several ranks the estimate can be low and the high-gradient count (skipped less NaN) high",
        f"counts come from the log's windows of {iters_per_print} updates, up to step {lines[-1]['step']}" if lines else
        f"no train_loss line at a multiple of iters_per_print = {iters_per_print}, so counts are unknown",
    ]
    return [_window(line, _original_counts(line)) for line in lines], notes


def sum_counts(windows: list[Window]) -> Counts:
    """The windows' counts added up; None where a window does not say, or there is none."""
    columns = {name: [window.counts[name] for window in windows] for name in COUNT_NAMES}
    return {name: None if None in column or not column else sum(column) for name, column in columns.items()}


def event_counts(events: list[dict]) -> Counts:
    """Updates (steps) in events.jsonl; an update with several reasons, or on several ranks, counts once.

    A patched checkout of the original marks with `"skipped": false` an update that it applied in spite of the event.
    """
    steps = {reason: {event["step"] for event in events if event["reason"] == reason} for reason in REASONS}
    nan_steps = set().union(*(steps[reason] for reason in NAN_REASONS))
    skipped = {event["step"] for event in events if event.get("skipped", True)}
    counts = {"skipped_updates": len(skipped), "nan_updates": len(nan_steps)}
    return counts | {reason: len(steps[reason]) for reason in REASONS}


def disagreements(windows: list[Window], events: list[dict]) -> list[str]:
    """Notes on where the train_loss lines' counts and events.jsonl differ, and on events after the last line."""
    last, logged = windows[-1].step, sum_counts(windows)
    recorded = event_counts([event for event in events if event["step"] <= last])
    notes = [
        f"{TOTAL_KEYS[name]} is {logged[name]} at step {last}, but events.jsonl holds {recorded[name]} such updates"
        for name in COUNT_NAMES if logged[name] != recorded[name]
    ]
    after = len({event["step"] for event in events if event["step"] > last})
    if after:
        notes.append(f"events.jsonl holds {after} more skipped updates after step {last}, the last train_loss line; "
                     "the counts leave them out")
    return notes


def _one_per_step(lines: list[dict], pick: Callable[[dict, dict], dict]) -> list[dict]:
    """Lines in ascending steps: a resumed run's lines replace those that it made again; `pick` chooses at equal steps."""
    kept = []
    for line in lines:
        while kept and kept[-1]["step"] > line["step"]:
            kept.pop()
        if kept and kept[-1]["step"] == line["step"]:
            line = pick(kept.pop(), line)
        kept.append(line)
    return kept


def _window(line: dict, counts: Counts) -> Window:
    return Window(line["step"], counts, line["elbo"], line["elbo_filtered"], line["grad_norm"])


def _original_counts(line: dict) -> Counts:
    # Rounding to 4 digits takes float32 noise off sums of 1/ranks before rounding up.
    skipped, rate_nan, distortion_nan = (
        math.ceil(round(line[key], 4)) for key in ("skipped_updates", "rate_nans", "distortion_nans"))
    nan_updates = max(rate_nan, distortion_nan)
    return {"skipped_updates": skipped, "nan_updates": nan_updates, "rate_nan": rate_nan,
            "distortion_nan": distortion_nan, "grad_nan": None, "high_grad": skipped - nan_updates}


def _notes_on_own(train: list[dict], counted: list[dict]) -> list[str]:
    foreign = len(train) - len(counted)
    notes = [f"{foreign} train_loss lines without total counts (the original code's) are left out"] if foreign else []
    backs = [now["step"] for before, now in pairwise(counted) if now["step"] <= before["step"]]
    if backs:
        notes.append(f"the run went back and went on from an earlier point at step {', '.join(map(str, backs))}: lines that it had "
                     "logged before for later steps do not count, though events.jsonl keeps their events")
    return notes
