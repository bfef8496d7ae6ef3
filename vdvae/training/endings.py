"""The ways in which a run ends before its end, each with an exit code of its own."""

from collections import Counter

from vdvae.ranks.distributed import RunEnded
from vdvae.records.step_report import NAN_REASONS
from vdvae.records.run_log import parameterization
from vdvae.settings.hparams import Hparams
from vdvae.settings.table import STABLE


class Stopped(RunEnded):
    """A signal asked the run to stop; the state is saved, and --resume continues the run."""

    exit_code = 75  # EX_TEMPFAIL: batch systems take it for "try again"


class Stuck(RunEnded):
    """Too many updates in a row were skipped."""

    exit_code = 3


class NotSaved(RunEnded):
    """The run trained to its end or was stopped, and its last checkpoint or a line of its logs could not be written."""

    exit_code = 4


class SkipStreak:
    """Sums up the events of updates that were skipped one after the other."""

    def __init__(self) -> None:
        self.reasons, self.places, self.norms = Counter(), Counter(), []

    def add(self, reason: str, grad_norm: float, origin: dict) -> None:
        """Take in one event."""
        block = f"decoder block {origin['block']}" if origin.get("block") is not None else str(origin.get("origin"))
        self.reasons[reason] += 1
        self.places[block] += 1
        self.norms.append(grad_norm)

    def message(self, skips: int, hparams: Hparams) -> str:
        """How many updates were skipped, why, where it began, and which flags may help."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        places = ", ".join(f"{place} {count}" for place, count in self.places.most_common(3))
        advice = _advice(self.reasons, self.norms, hparams)
        return (f"stuck: the last {skips} updates were all skipped. Events: {reasons}; where they began: {places}. "
                f"{advice} The state is in stuck-*; latest-* is the last checkpoint "
                "before it. --max_consecutive_skips 0 would skip for ever.")


def _advice(reasons: Counter, norms: list[float], hparams: Hparams) -> str:
    if any(reason in reasons for reason in NAN_REASONS):
        scales = parameterization({name: getattr(hparams, name) for name in STABLE})
        return (f"Losses or gradients are not finite with {scales}: try {'' if scales == parameterization(STABLE) else '--stable, or '}"
                f"a --lr below {hparams.lr:g}, from a checkpoint before the streak.")
    return (f"Gradient norms, {min(norms, default=0):.4g} at the least, are not below --skip_threshold "
            f"{hparams.skip_threshold:g}: try a --lr below {hparams.lr:g}, more --warmup_iters, or a higher threshold.")
