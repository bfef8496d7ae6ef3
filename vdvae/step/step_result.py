"""What an update leaves on the device, and its way to the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vdvae.model.vae import Elbo
from vdvae.records.step_report import LOSS_TERMS, StepReport, skip_reasons


@dataclass(frozen=True)
class StepResult:
    """What one update leaves on the device; the host waits only if it reads it."""

    losses: Tensor  # [ranks, 3], each rank's LOSS_TERMS, nats per dimension
    grad_norm: Tensor  # scalar, global L2 norm before clipping, the same on all ranks
    grad_norms: Tensor  # [P], L2 norm of each parameter's gradient, in the order of named_parameters
    skip: Tensor  # bool scalar, the same on all ranks
    stop: Tensor  # bool scalar: a rank was asked to stop; the same on all ranks
    elbos: tuple[Elbo, ...]  # of this rank's batch, one for each of its accumulate_steps parts
    spectral_norms: Tensor | None = None  # scalar, the sum of the convolutions' largest singular values, if penalized


class PendingReport:
    """A StepResult on its way to the host. `read` waits for it, while the device works on the next update if there is one."""

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
