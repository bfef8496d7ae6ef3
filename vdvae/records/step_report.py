"""What one update did, as the host knows it, and why an update was skipped."""

import math
from dataclasses import dataclass

LOSS_TERMS = ("elbo", "distortion", "rate")

# Why an update was skipped, in the words of events.jsonl; "nan" stands for NaN and for both infinities.
REASONS = ("rate_nan", "distortion_nan", "grad_nan", "high_grad")
NAN_REASONS = ("rate_nan", "distortion_nan", "grad_nan")


@dataclass(frozen=True)
class StepReport:
    """One update: its figures in nats per dimension, and why it was skipped; without reasons it was applied."""

    iteration: int
    epoch: int
    lr: float
    losses: list[dict[str, float]]  # by rank, LOSS_TERMS
    grad_norm: float
    reasons: dict[str, list[int]]  # one of REASONS -> the ranks that caused it
    stop: bool = False  # a rank was asked to stop
    spectral_norms: float | None = None  # sum of the convolutions' largest singular values, with spectral_reg

    @property
    def skipped(self) -> bool:
        """Whether the update was skipped; all ranks skip together."""
        return bool(self.reasons)

    @property
    def has_nan(self) -> bool:
        """Whether a loss term or the gradient was not finite."""
        return any(reason in self.reasons for reason in NAN_REASONS)

    def mean(self, term: str) -> float:
        """Mean over the ranks of one of LOSS_TERMS; it is not finite if one rank's is not."""
        return sum(losses[term] for losses in self.losses) / len(self.losses)


def skip_reasons(losses: list[dict[str, float]], grad_norm: float) -> dict[str, list[int]]:
    """Why an update was skipped and which ranks caused it, from each rank's losses and the global gradient norm.

    A loss term that is not finite is named with its ranks; the gradient that it spoils is not counted again. The
    gradient is a mean over ranks, so the rank with the largest loss is named for a bad one.
    """
    reasons = {}
    for reason, term in (("rate_nan", "rate"), ("distortion_nan", "distortion")):
        ranks = [rank for rank, each in enumerate(losses) if not math.isfinite(each[term])]
        if ranks:
            reasons[reason] = ranks
    if reasons:
        return reasons
    worst = max(range(len(losses)), key=lambda rank: losses[rank]["elbo"])
    return {"high_grad" if math.isfinite(grad_norm) else "grad_nan": [worst]}
