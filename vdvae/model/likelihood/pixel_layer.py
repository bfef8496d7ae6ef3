"""What all likelihoods have: a convolution to the parameters of the pixels, and the grid of grey levels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vdvae.data.images import dtype_of
from vdvae.data.spec import DatasetSpec
from vdvae.model.blocks import conv


class PixelScales(NamedTuple):
    """What the Normals of a batch were at its pixels, float32, without graph."""

    log_sigma: Tensor  # [B, H, W, C], in units in which the range of the grey levels is 2
    error: Tensor  # [B, H, W, C], from the mean to the grey level, in units of sigma


class PixelLayer(nn.Module):
    """A 1x1 convolution from the decoder's final state to `outputs` parameters of every pixel.

    Grey levels lie in [-1, 1], `bin_width` apart: 2 / (2^bits - 1). Those of 5 bits lie at 0, 8, ..., 248 of 255. A
    likelihood has `nll(state, target)`, `[B]` in nats per dimension, and `sample(state)`, images `[B, H, W, C]`.
    """

    def __init__(self, width: int, outputs: int, spec: DatasetSpec):
        super().__init__()
        self.channels, self.half_range = spec.channels, spec.top_level / 2
        self.step = 8 if spec.five_bit else 1  # between the grey levels, in those of the images
        self.top_level = spec.top_level + 1 - self.step
        self.bin_width = self.step / self.half_range
        self.dtype = dtype_of(spec.bits)
        self.out_conv = conv(width, outputs, 1)

    def parameters_of(self, state: Tensor) -> Tensor:
        """Final state `[B, width, H, W]` to `[B, H, W, outputs]`, in float32 under autocast too."""
        with torch.autocast(state.device.type, enabled=False):
            return self.out_conv(state.float()).permute(0, 2, 3, 1)

    def nearest_levels(self, x: Tensor) -> Tensor:
        """Values `[B, H, W, C]`, [-1, 1] being the range, to images of the nearest grey levels, uint8 or uint16."""
        levels = ((x + 1) * self.half_range / self.step).round() * self.step
        return levels.clamp(0, self.top_level).to(self.dtype)

    def scales(self, state: Tensor, target: Tensor) -> PixelScales | None:
        """What the pixels' Normals were, to tell where a scale collapsed; None where there are none."""
        return None
