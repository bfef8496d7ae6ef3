"""What CudaGraphs does, on any device: the recorded work is done again at each replay."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from vdvae.step.graphed_step import _tensors
from vdvae.step.train_step import TrainStep


class ReplayedOnHost:
    """Puts what a replay computes where the recording's tensors lie, as CUDA does; a recording itself changes nothing."""

    def __init__(self, step: TrainStep):
        self.step, self.recordings = step, 0

    def warm_up(self, work: Callable[[], Any]) -> Any:
        return work()

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        parts = (self.step.model, self.step.average, self.step.optimizer)
        before, noise = [deepcopy(part.state_dict()) for part in parts], torch.get_rng_state()
        tensors = [weight.grad for weight in self.step.parameters] + (self.step.penalty.vectors if self.step.penalty else [])
        values = [tensor.clone() for tensor in tensors]
        left = work()
        for part, state in zip(parts, before):
            part.load_state_dict(state)
        torch._foreach_copy_(tensors, values)
        torch.set_rng_state(noise)
        self.recordings += 1
        return left, lambda: fill(left, work())


def fill(left: Any, new: Any) -> None:
    for old, tensor in zip(_tensors(left), _tensors(new), strict=True):
        if 0 not in old.stride():  # a number that is repeated, and constant
            old.copy_(tensor)
