"""The pair (sigma, log sigma) that every scale parameterization returns."""

import math
from typing import NamedTuple

from torch import Tensor


class Scale(NamedTuple):
    """Standard deviation and its natural logarithm, two tensors of one shape and dtype.

    Both are kept because neither gives the other accurately: where sigma under- or overflows, log_sigma stays finite.
    """

    sigma: Tensor
    log_sigma: Tensor

    def tempered(self, temperature: float) -> "Scale":
        """The scale with sigma multiplied by `temperature`; shape and dtype stay.

        Raises ValueError unless the temperature is finite and above 0.
        """
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be finite and above 0, got {temperature!r}")
        return Scale(self.sigma * temperature, self.log_sigma + math.log(temperature))

    def detach(self) -> "Scale":
        """The same tensors without their graph; nothing is copied."""
        return Scale(self.sigma.detach(), self.log_sigma.detach())
