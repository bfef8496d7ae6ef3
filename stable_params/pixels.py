"""Decoder head for pixels: network outputs to a Normal whose sigma is bounded by the data's grey levels and range."""

import math
from dataclasses import dataclass

from torch import Tensor

from stable_params.bounded import Bounded
from stable_params.normal import Normal
from stable_params.parameterization import require_finite

MEANS = ("identity", "sigmoid")


@dataclass(frozen=True)
class PixelHead:
    """Pixels in [low, high] with 2^bits grey levels as Normals with a Bounded scale (Dehaene & Brossard 2021, sec. 4).

    omega is the data range high - low; alpha is the standard deviation of noise that is uniform in one grey level,
    omega/(2^bits sqrt(12)). `mean` is "identity" (loc is the output itself) or "sigmoid" (scaled to [low, high]).
    The defaults fit images in [0, 1] from 8 bits. Raises TypeError or ValueError naming an argument that cannot be.
    """

    low: float = 0.0
    high: float = 1.0
    bits: int = 8
    mean: str = "identity"

    def __post_init__(self) -> None:
        require_finite("low", self.low)
        require_finite("high", self.high)
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low {self.low!r} and high {self.high!r}")
        if type(self.bits) is not int:
            raise TypeError(f"bits must be an int, got {self.bits!r}")
        if self.bits < 1:
            raise ValueError(f"bits must be at least 1, got {self.bits!r}")
        if self.mean not in MEANS:
            raise ValueError(f"mean must be one of {', '.join(MEANS)}, got {self.mean!r}")

    @property
    def scale(self) -> Bounded:
        """The parameterization of sigma: bounded{1/(256 sqrt(12))}_1 by default."""
        data_range = self.high - self.low
        return Bounded(data_range / 2**self.bits / math.sqrt(12), data_range)

    def __call__(self, raw: Tensor, dim: int = 1) -> Normal:
        """Normal of shape `[B, C, ...]` from raw `[B, 2C, ...]`: means first along `dim`, then the raw scales.

        Raises ValueError when dimension `dim` of raw does not exist or has no even size.
        """
        if not -raw.ndim <= dim < raw.ndim or raw.shape[dim] % 2:
            raise ValueError(f"raw must hold means and scales along dimension {dim}, got shape {tuple(raw.shape)}")
        return self.normal(*raw.chunk(2, dim))

    def normal(self, raw_loc: Tensor, raw_scale: Tensor) -> Normal:
        """Normal from outputs for the mean and for the scale; their shapes must broadcast, the dtype stays."""
        return self.scale.normal(self.loc(raw_loc), raw_scale)

    def loc(self, raw_loc: Tensor) -> Tensor:
        """The means that the outputs for them give, of their shape and dtype."""
        return raw_loc if self.mean == "identity" else raw_loc.sigmoid() * (self.high - self.low) + self.low
