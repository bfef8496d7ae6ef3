"""What one update did, read on the host one step late, so that the device never runs dry."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vdvae.records.events import NAN_REASONS
from vdvae.step.train_step import LOSS_TERMS, StepResult


@dataclass(frozen=True)
class StepReport:
    """One update on the host: figures in nats per dimension, and why it was skipped (no reasons: it was applied)."""

    iteration: int
    epoch: int
    lr: float
    losses: list[dict[str, float]]  # by rank, LOSS_TERMS
    grad_norm: float
    reasons: dict[str, list[int]]  # reason -> the ranks it is blamed on
    stop: bool = False  # a rank was asked to stop
    spectral_norms: float | None = None  # sum of the convolutions' largest singular values, if penalized

    @property
    def skipped(self) -> bool:
        """True if no rank applied the update."""
        return bool(self.reasons)

    @property
    def has_nan(self) -> bool:
        """True if a loss term or the gradient was not finite."""
        return any(reason in self.reasons for reason in NAN_REASONS)

    def mean(self, term: str) -> float:
        """Mean over the ranks of one of LOSS_TERMS; not finite if any is not."""
        return sum(losses[term] for losses in self.losses) / len(self.losses)


class PendingReport:
    """A StepResult on its way to the host; `read` waits for it, which costs nothing once the next step is queued."""

    def __init__(self, result: StepResult, iteration: int, epoch: int, lr: float):
        self.result, self.iteration, self.epoch, self.lr = result, iteration, epoch, lr
        flags = torch.stack([result.skip, result.stop]).float()
        spectral = [] if result.spectral_norms is None else [result.spectral_norms.reshape(1)]
        figures = torch.cat([*spectral, result.losses.flatten(), result.grad_norm.reshape(1), flags])
        self._host, self._arrived = _start_copy(figures)

    def read(self) -> StepReport:
        """The figures on the host, and the reasons for a skip; the same on all ranks."""
        if self._arrived is not None:
            self._arrived.synchronize()
        *losses, grad_norm, skip, stop = self._host.tolist()
        spectral_norms = None if self.result.spectral_norms is None else losses.pop(0)
        width = len(LOSS_TERMS)
        by_rank = [dict(zip(LOSS_TERMS, losses[i : i + width])) for i in range(0, len(losses), width)]
        reasons = skip_reasons(by_rank, grad_norm) if skip else {}
        return StepReport(self.iteration, self.epoch, self.lr, by_rank, grad_norm, reasons, bool(stop),
                          spectral_norms)


def _start_copy(figures: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if figures.device.type != "cuda":
        return figures, None
    host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True).copy_(figures, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return host, arrived


def skip_reasons(losses: list[dict[str, float]], grad_norm: float) -> dict[str, list[int]]:
    """Why an update was skipped and the ranks blamed, from each rank's losses and the global gradient norm.

    A loss term that is not finite is blamed on its ranks, and the gradient that it spoils is not counted again. The
    gradient is a mean over ranks, so a bad one is blamed on the rank with the largest loss.
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
