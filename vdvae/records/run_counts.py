"""Count skipped updates by reason from train_loss lines and events, each update once."""

import math
from dataclasses import dataclass

import numpy as np

from vdvae.records.columns import Columns
from vdvae.records.lines import MOST
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
class Windows:
    """Figures of the updates between one train_loss line and the next: float64 [windows], in ascending steps; losses in nats per dimension.

    `loss` is not finite if one update's loss was not. `finite_loss` is the mean of the finite ones, `grad_norm` the largest.
    `counts` are by COUNT_NAMES, None for what the log does not say.
    """

    step: np.ndarray
    counts: dict[str, np.ndarray | None]
    loss: np.ndarray
    finite_loss: np.ndarray
    grad_norm: np.ndarray

    def __len__(self) -> int:
        return len(self.step)

    def summed(self, inside: slice = slice(None)) -> Counts:
        """The counts of some windows added up; None where the log does not say, or there is no window."""
        return {name: None if column is None or not len(column[inside]) else int(column[inside].sum())
                for name, column in self.counts.items()}


def own_windows(train: Columns) -> tuple[Windows, list[str]]:
    """Disjoint windows of this project's train_loss lines, and notes; the counts sum to the last line's `total_*`.

    Lines without `total_*` (a run that the original code began) are left out. Where a run went back to a checkpoint, the
    totals of earlier lines are lowered to those of later lines.
    """
    counted = np.flatnonzero(~train.absent("total_skipped_updates"))
    lines = _one_per_step(train, counted, counted)
    counts = {name: np.diff(np.minimum.accumulate(train[key][lines][::-1])[::-1], prepend=0.0) for name, key in TOTAL_KEYS.items()}
    return _windows(train, lines, counts), _notes_on_own(train, counted)


def original_windows(train: Columns, iters_per_print: object) -> tuple[Windows, list[str]]:
    """Disjoint windows of the original code's train_loss lines, and notes on what the lines do not say.

    Each of its lines covers the last `iters_per_print` updates, so only those at a multiple of it are taken, and of
    several at one step the one that counts most skipped updates. Raises ValueError for an iters_per_print below 1, and for a
    count that is none.
    """
    if not isinstance(iters_per_print, int) or not 1 <= iters_per_print < MOST:
        raise ValueError(f"hyper-parameter iters_per_print is {iters_per_print!r}, a whole number from 1 is needed")
    aligned = np.flatnonzero(train["step"] % iters_per_print == 0)
    lines = _one_per_step(train, aligned, train["skipped_updates"][aligned])
    notes = [
        "the original code's log: it has no sigma_param, no events (so no blocks, no log sigmas, no first and last "
        "step of a reason) and no count of NaN gradients, which are among the high gradients here",
        "NaN updates are estimated as the larger of distortion_nans and rate_nans in each window; these are means over "
        "ranks, so with several ranks the estimate can be low and the high-gradient count (skipped less NaN) high",
        f"counts come from the log's windows of {iters_per_print} updates, up to step {int(train['step'][lines[-1]])}" if len(lines)
        else f"no train_loss line at a multiple of iters_per_print = {iters_per_print}, so counts are unknown",
    ]
    return _windows(train, lines, _original_counts(train, lines)), notes


def event_counts(events: Columns, last_step: float = math.inf) -> Counts:
    """Updates (steps up to `last_step`) in events.jsonl; an update with several reasons, or on several ranks, counts once."""
    steps = {reason: _distinct(events, events.is_word("reason", reason), last_step) for reason in REASONS}
    skipped = skipped_steps(events, last_step)
    nan_steps = np.unique(np.concatenate([steps[reason] for reason in NAN_REASONS]))
    return {"skipped_updates": len(skipped), "nan_updates": len(nan_steps), **{reason: len(steps[reason]) for reason in REASONS}}


def skipped_steps(events: Columns, last_step: float = math.inf) -> np.ndarray:
    """Steps, up to `last_step`, of the updates that were skipped, each once, in ascending order."""
    return _distinct(events, events["skipped"] != 0, last_step)


def disagreements(windows: Windows, events: Columns) -> list[str]:
    """Notes on where the train_loss lines' counts and events.jsonl differ, and on events after the last line."""
    last, logged = int(windows.step[-1]), windows.summed()
    recorded = event_counts(events, last)
    notes = [
        f"{TOTAL_KEYS[name]} is {logged[name]} at step {last}, but events.jsonl holds {recorded[name]} such updates"
        for name in COUNT_NAMES if logged[name] != recorded[name]
    ]
    after = len(_distinct(events, events["step"] > last))
    if after:
        notes.append(f"events.jsonl holds {after} more skipped updates after step {last}, the last train_loss line; "
                     "the counts leave them out")
    return notes


def _distinct(events: Columns, chosen: np.ndarray, last_step: float = math.inf) -> np.ndarray:
    return np.unique(events["step"][chosen & (events["step"] <= last_step)])


def _one_per_step(train: Columns, lines: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Those of `lines`, in ascending steps, that no later line with a smaller step replaces; of one step the first with the highest rank."""
    steps = train["step"][lines]
    kept = np.flatnonzero(steps == np.minimum.accumulate(steps[::-1])[::-1])
    kept = kept[np.lexsort((-kept, rank[kept], steps[kept]))]
    return lines[kept[np.diff(steps[kept], append=math.inf) > 0]]


def _windows(train: Columns, lines: np.ndarray, counts: dict[str, np.ndarray | None]) -> Windows:
    return Windows(train["step"][lines], counts, *(train[key][lines] for key in ("elbo", "elbo_filtered", "grad_norm")))


def _original_counts(train: Columns, lines: np.ndarray) -> dict[str, np.ndarray | None]:
    # Rounding to 4 digits takes float32 noise off sums of 1/ranks before rounding up.
    skipped, rate_nan, distortion_nan = (
        np.ceil(np.round(_count(train, key, lines), 4)) for key in ("skipped_updates", "rate_nans", "distortion_nans"))
    nan_updates = np.maximum(rate_nan, distortion_nan)
    return {"skipped_updates": skipped, "nan_updates": nan_updates, "rate_nan": rate_nan,
            "distortion_nan": distortion_nan, "grad_nan": None, "high_grad": skipped - nan_updates}


def _count(train: Columns, key: str, lines: np.ndarray) -> np.ndarray:
    values = train[key][lines]
    for line in lines[~((values >= 0) & (values < MOST))]:
        raise ValueError(f"{key} is {train[key][line]} at step {int(train['step'][line])}, must be from 0 to 10^15")
    return values


def _notes_on_own(train: Columns, counted: np.ndarray) -> list[str]:
    foreign = len(train) - len(counted)
    notes = [f"{foreign} train_loss lines without total counts (the original code's) are left out"] if foreign else []
    steps = train["step"][counted]
    backs = steps[1:][np.diff(steps) <= 0]
    if len(backs):
        notes.append(f"the run went back and went on from an earlier point at step {', '.join(f'{step:.0f}' for step in backs)}: lines "
                     "that it had logged before for later steps do not count, though events.jsonl keeps their events")
    return notes
