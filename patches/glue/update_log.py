"""Counts skipped updates and NaN events by reason, and writes events.jsonl beside the run's log."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch.distributed

# "nan" means any value that is not finite. A NaN in the loss spoils the gradient too, which is not counted again.
NAN_REASONS = ("rate_nan", "distortion_nan", "grad_nan")
NAMES = ("skipped_updates", "nan_updates", "rate_nans", "distortion_nans", "grad_nans", "high_grads")
FIGURES = ("grad_norm", "elbo", "distortion", "rate")


class UpdateLog:
    """Counts the updates since the run began. Rank 0 (`H.rank`) writes the events to `H.save_dir`/events.jsonl."""

    def __init__(self, H: object) -> None:
        folder, rank = _value(H, "save_dir"), _value(H, "rank")
        if not folder:
            raise ValueError(f"H.save_dir is {folder!r}, a folder for events.jsonl is needed")
        self.file = Path(folder) / "events.jsonl"
        self.is_main = (_own_rank() if rank is None else int(rank)) == 0
        self._counts: dict[str, int] | None = None  # None before the first update

    def count(self, step: int, stats: Mapping[str, object]) -> None:
        """Count update number `step` by its figures. The first call also counts the earlier updates in events.jsonl."""
        step, figures = int(step), {key: float(stats[key]) for key in FIGURES if key in stats}
        if self._counts is None:
            self._counts = self._resume(step)
        skipped = float(stats["skipped_updates"]) > 0
        reasons = _reasons(float(stats["rate_nans"]) > 0, float(stats["distortion_nans"]) > 0, skipped, figures)
        _add(self._counts, set(reasons), skipped)
        if self.is_main:
            for reason in reasons:
                self._write({"step": step, "rank": None, "reason": reason, "skipped": skipped, **figures})

    def totals(self) -> dict[str, int]:
        """The counts by their names in a train_loss line: total_skipped_updates, total_rate_nans, ..."""
        counts = self._counts or dict.fromkeys(NAMES, 0)
        return {f"total_{name}": count for name, count in counts.items()}

    def _write(self, event: dict) -> None:
        with open(self.file, "a", encoding="utf-8") as file:  # closed after each line, so nothing is lost
            file.write(json.dumps({"time": time.ctime(), **event, "origin": "unknown"}) + "\n")

    def _resume(self, first: int) -> dict[str, int]:
        """The counts of the updates before `first` in events.jsonl; later events are moved to another file."""
        kept, abandoned, by_step = [], [], {}
        for line in self.file.read_text(encoding="utf-8").splitlines() if self.is_main and self.file.is_file() else []:
            event = _event(line)
            if event is None or event["step"] >= first:
                abandoned.append(line)
                continue
            kept.append(line)
            by_step.setdefault(event["step"], []).append(event)
        if abandoned:
            self._move_out(abandoned, kept)
        counts = dict.fromkeys(NAMES, 0)
        for events in by_step.values():
            _add(counts, {event["reason"] for event in events}, any(event.get("skipped", True) for event in events))
        return counts

    def _move_out(self, abandoned: list[str], kept: list[str]) -> None:
        """Leave the lines `kept` in events.jsonl, and append the others to events-abandoned.jsonl."""
        with open(self.file.with_name("events-abandoned.jsonl"), "a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in abandoned)
        new = self.file.with_name("events.jsonl.new")
        new.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        os.replace(new, self.file)


def _reasons(rate_nan: bool, distortion_nan: bool, skipped: bool, figures: dict[str, float]) -> list[str]:
    """The reasons to skip the update; none for an update that was applied and whose figures are finite."""
    reasons = ["rate_nan"] if rate_nan or not math.isfinite(figures.get("rate", 0)) else []
    reasons += ["distortion_nan"] if distortion_nan or not math.isfinite(figures.get("distortion", 0)) else []
    if not reasons and not math.isfinite(figures["grad_norm"]):
        return ["grad_nan"]
    return reasons or ["high_grad"] * skipped


def _add(counts: dict[str, int], reasons: set[str], skipped: bool) -> None:
    counts["skipped_updates"] += int(skipped)
    counts["nan_updates"] += int(not reasons.isdisjoint(NAN_REASONS))
    for reason in reasons:
        counts[f"{reason}s"] += 1


def _event(line: str) -> dict | None:
    """The event in a line; None for a line that was cut off or has another format."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and isinstance(event.get("step"), int) and f"{event.get('reason')}s" in NAMES
    return event if known else None


def _own_rank() -> int:
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if started else 0


def _value(H: object, name: str) -> object:
    return H.get(name) if isinstance(H, Mapping) else getattr(H, name, None)
