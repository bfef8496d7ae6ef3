"""A scale that ignores the network (Dehaene & Brossard 2021, arXiv 2106.13739, section 3.4)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stable_params.parameterization import Parameterization, require_positive
from stable_params.scale import Scale


@dataclass(frozen=True)
class Constant(Parameterization):
    """sigma is the given constant whatever raw holds, NaN and infinities included; raw gives shape, dtype and device.

    No gradient reaches raw. `flag` is a label only: `parse_parameterization` does not know this class.
    Raises ValueError unless sigma is finite and above 0.
    """

    sigma: float = 1.0
    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        require_positive("sigma", self.sigma)

    def _scale(self, raw: Tensor) -> Scale:
        return Scale(torch.full_like(raw, self.sigma), torch.full_like(raw, math.log(self.sigma)))
