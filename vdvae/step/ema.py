"""The averaged weights that evaluation and samples use."""

import copy

import torch
from torch import Tensor, nn


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
