"""Training of stacked VAEs by epochs: the first loss of each member that is not finite, and its best model so far."""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from experiments.mlp_vae.data import Batches
from experiments.mlp_vae.model import Cell, MlpVaes, initial_parameters


class Training:
    """Members side by side, each with a cell and a seed, all with the learning rate `lr`.

    Each member minimises its own mean negative ELBO with Adam, whose update is elementwise.

    `first_bad`, int64 `[E]`, is the step, counted from 1, at which a member's loss was first NaN or infinite, 0 for none.
    Such a member stays in its place; no gradient, moment or sum of it enters another member's.
    """

    def __init__(self, cells: Sequence[Cell], seeds: list[int], lr: float, images: Tensor, batch_size: int):
        device = images.device
        self.vaes = MlpVaes(cells, [parameter.to(device) for parameter in initial_parameters(seeds)])
        self.adam = torch.optim.Adam(self.vaes.parameters, lr, fused=True)
        self.batches = Batches(images, seeds, batch_size)
        self.epoch = 0
        self.first_bad = torch.zeros(len(seeds), dtype=torch.int64, device=device)

    def train_epoch(self) -> Tensor:
        """One pass over the images; returns the mean loss of the epoch `[E]`, in nats."""
        self.epoch += 1
        first_step = (self.epoch - 1) * len(self.batches) + 1
        losses = [self._step(images, eps, step)
                  for step, (images, eps) in enumerate(self.batches.epoch(self.epoch), first_step)]
        return torch.stack(losses).mean(0)

    def first_bad_epoch(self) -> list[int]:
        """The epochs of `first_bad`, counted from 1; 0 for none."""
        return [math.ceil(step / len(self.batches)) for step in self.first_bad.tolist()]

    def state(self) -> dict:
        """Everything that the rest of the training depends on."""
        return {"epoch": self.epoch, "first_bad": self.first_bad, "moments": self.adam.state_dict()["state"],
                "parameters": [parameter.detach() for parameter in self.vaes.parameters]}

    @torch.no_grad()
    def restore(self, state: dict) -> None:
        """Continue from what `state` returned for as many members, at this training's learning rate."""
        self.epoch = state["epoch"]
        self.first_bad.copy_(state["first_bad"])
        self.adam.load_state_dict({**self.adam.state_dict(), "state": deepcopy(state["moments"])})
        for parameter, saved in zip(self.vaes.parameters, state["parameters"], strict=True):
            parameter.copy_(saved)

    def _step(self, images: Tensor, eps: Tensor, step: int) -> Tensor:
        losses = self.vaes.negative_elbo(images, eps).mean(1)
        # The sum passes the gradient 1 back to each member, whatever the other losses are.
        self.adam.zero_grad()
        losses.sum().backward()
        self.adam.step()
        newly_bad = ~losses.isfinite() & (self.first_bad == 0)
        self.first_bad += newly_bad * step
        return losses.detach()


class Selection:
    """For each member the model with the lowest validation value so far; a NaN is never the lowest."""

    def __init__(self, parameters: list[Tensor]):
        members, device = len(parameters[0]), parameters[0].device
        self.parameters = [parameter.detach().clone() for parameter in parameters]
        self.value = torch.full((members,), math.inf, dtype=torch.float64, device=device)
        self.epoch = torch.zeros(members, dtype=torch.int64, device=device)

    @torch.no_grad()
    def offer(self, value: Tensor, epoch: int, parameters: list[Tensor]) -> None:
        """Keep the parameters of members whose `value` `[E]` is below all before. `epoch` stays 0 where none was."""
        better = value < self.value
        self.value = torch.where(better, value, self.value)
        self.epoch = torch.where(better, epoch, self.epoch)
        for best, parameter in zip(self.parameters, parameters):
            best.copy_(torch.where(better[:, None, None], parameter, best))

    def state(self) -> dict:
        """What `restore` takes."""
        return {"value": self.value, "epoch": self.epoch, "parameters": self.parameters}

    def restore(self, state: dict) -> None:
        """Continue from what `state` returned."""
        self.value, self.epoch, self.parameters = (state[name] for name in ("value", "epoch", "parameters"))
