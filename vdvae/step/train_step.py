"""One update: gradient, clipping, the skip decision, optimizer, averaged weights; the host waits for nothing."""

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vdvae.model.vae import VAE, Elbo
from vdvae.ranks.distributed import World
from vdvae.ranks.flat_gradients import FlatGradients
from vdvae.ranks.randomness import own_noise
from vdvae.records.step_report import LOSS_TERMS
from vdvae.settings.hparams import Hparams
from vdvae.step.acceleration import tf32_in_training
from vdvae.step.optimizer import step_unless
from vdvae.step.spectral import SpectralPenalty
from vdvae.step.step_result import StepResult


class TrainStep:
    """Callable that updates `model` and `average` from one batch.

    `model` is a VAE or its DistributedDataParallel wrapper, `average` a plain VAE, `penalty` that of spectral_reg. With
    cuda_graphs `model` is a VAE on several ranks too: `share` then averages the gradients, between the two recorded methods
    `gradients` and `apply`.
    """

    def __init__(self, model: nn.Module, average: VAE, optimizer: torch.optim.Optimizer, hparams: Hparams, world: World,
                 penalty: SpectralPenalty | None = None):
        self.model, self.average, self.optimizer = model, average, optimizer
        self.hparams, self.world, self.penalty = hparams, world, penalty
        self.parameters = list(model.parameters())
        several = hparams.cuda_graphs and world.size > 1
        self.flat = FlatGradients(self.parameters, world, len(LOSS_TERMS) + 1) if several else None
        self.buckets_are_final = world.size == 1 or several

    def __call__(self, input: Tensor, target: Tensor, lr: float | Tensor, stop: bool | Tensor = False) -> StepResult:
        """Score and learn from `input` `[B, C, H, W]` and `target` `[B, H, W, C]` at learning rate `lr`.

        `stop` changes nothing here; it is sent with the losses, so that all ranks see it at the same update. B must be a
        multiple of accumulate_steps.

        The update is skipped, on all ranks, when any rank's distortion or rate is not finite, or when the gradient norm
        is not finite or not below skip_threshold (-1: no such limit).
        """
        if not self.buckets_are_final:
            self._finish_buckets(input, target)
        elbos, terms = self.gradients(input, target, stop)
        return self.apply(elbos, self.share(terms), lr)

    def gradients(self, input: Tensor, target: Tensor, stop: bool | Tensor) -> tuple[tuple[Elbo, ...], Tensor]:
        """Compute the batch's gradients; returns the Elbo of each part, and LOSS_TERMS of the batch with `stop`, `[4]`."""
        if self.flat:
            self.flat.zero()
        else:
            self.optimizer.zero_grad(set_to_none=True)
        elbos = self._add_gradients(input, target)
        return elbos, _terms(elbos, stop)

    def share(self, terms: Tensor) -> Tensor:
        """Every rank's `terms` `[4]` as `[ranks, 4]`; averages the gradients if DistributedDataParallel has not done so."""
        return self.flat.share(terms) if self.flat else self.world.gather(terms)

    def apply(self, elbos: tuple[Elbo, ...], gathered: Tensor, lr: float | Tensor) -> StepResult:
        """Update the weights and their average from the gradients and from the terms of all ranks, `[ranks, 4]`."""
        spectral_norms = self.penalty.add_gradient(self.hparams.spectral_reg) if self.penalty else None
        grad_norms, grad_norm = self._clip()
        losses = gathered[:, : len(LOSS_TERMS)]
        skip = self._must_skip(losses, grad_norm)
        step_unless(self.optimizer, skip, lr)
        update_average(self.average, self.model, self.hparams.ema_rate, skip)
        return StepResult(losses, grad_norm, grad_norms, skip, gathered[:, -1].any(), elbos, spectral_norms)

    def _finish_buckets(self, input: Tensor, target: Tensor) -> None:
        """A backward pass whose gradients are dropped.

        DistributedDataParallel sorts its buckets anew after the first backward pass of a process. With three ranks and more
        the place of a gradient in its bucket decides the order in which it is summed, and so how the sum rounds. After this
        pass the first update of a resumed run sums as that of a run which was not interrupted.
        """
        with own_noise(0, self.world):
            self._add_gradients(input, target)
        self.buckets_are_final = True

    def _add_gradients(self, input: Tensor, target: Tensor) -> tuple[Elbo, ...]:
        """Add the gradient of the batch's mean loss, part by part; DistributedDataParallel shares in the last part alone."""
        parts = list(zip(*(whole.chunk(self.hparams.accumulate_steps) for whole in (input, target)), strict=True))
        elbos = []
        for part in parts:
            shares = self.world.size == 1 or self.flat or len(elbos) == len(parts) - 1
            with nullcontext() if shares else self.model.no_sync(), tf32_in_training(self.hparams.precision):
                with torch.autocast(input.device.type, torch.bfloat16, enabled=self.hparams.precision == "bf16"):
                    elbo = self.model(*part)
                (elbo.negative_elbo / len(parts)).backward()
            elbos.append(elbo.detach())
        return tuple(elbos)

    @torch.no_grad()
    def _clip(self) -> tuple[Tensor, Tensor]:
        """Scale the gradients down to grad_clip; returns each parameter's norm and the global norm, both before scaling."""
        gradients = [parameter.grad for parameter in self.parameters]
        norms = torch.stack(torch._foreach_norm(gradients))
        norm = torch.linalg.vector_norm(norms)
        torch._foreach_mul_(gradients, (self.hparams.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        return norms, norm

    def _must_skip(self, losses: Tensor, grad_norm: Tensor) -> Tensor:
        is_good = losses[:, 1:].isfinite().all() & grad_norm.isfinite()
        if self.hparams.skip_threshold != -1:
            is_good = is_good & (grad_norm < self.hparams.skip_threshold)
        return ~is_good


def _terms(elbos: tuple[Elbo, ...], stop: bool | Tensor) -> Tensor:
    """LOSS_TERMS of the whole batch and whether to stop, `[4]`."""
    terms = torch.stack([torch.stack([elbo.negative_elbo, elbo.distortion.mean(), elbo.rate.mean()]) for elbo in elbos])
    losses = terms.mean(dim=0)
    return torch.cat([losses, torch.zeros_like(losses[:1]) + stop])


def average_of(model: nn.Module) -> nn.Module:
    """A frozen copy of `model` to hold its averaged weights."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, rate: float, skip: Tensor) -> None:
    """average ← rate × average + (1 − rate) × weights, unless `skip` (bool scalar on the device) holds."""
    averages, weights = list(average.parameters()), list(model.parameters())
    differences = torch._foreach_sub(weights, averages)
    torch._foreach_mul_(differences, (1 - rate) * (~skip).float())
    torch._foreach_add_(averages, differences)
