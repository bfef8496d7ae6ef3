"""A Normal for each channel of a pixel, on images with noise of one grey level (Dehaene & Brossard 2021, sec. 4)."""

import math

import torch
from torch import Tensor, nn

from stable_params import Exp, Normal, PixelHead, parse_parameterization
from vdvae.data.spec import DatasetSpec
from vdvae.model.likelihood.pixel_layer import PixelLayer, PixelScales


class NormalPixels(PixelLayer):
    """Normals whose means and scales the decoder gives; with `global` all pixels share one learned scale.

    sigma_param: `bounded` (from alpha, noise in one grey level, to omega, the range), `global`, or a flag of stable_params.
    loc: `sigmoid` keeps the means in the range, `identity` takes them as they are.
    `global` begins at the scale that is best for images of which the decoder knows nothing (eq. 4).
    """

    def __init__(self, width: int, spec: DatasetSpec, sigma_param: str, loc: str):
        is_global = sigma_param == "global"
        super().__init__(width, spec.channels * (1 if is_global else 2), spec)
        lowest, highest = -1 - self.bin_width / 2, self.top_level / self.half_range - 1 + self.bin_width / 2
        self.head = PixelHead(lowest, highest, 5 if spec.five_bit else spec.bits, loc)
        self.scale = {"bounded": self.head.scale, "global": Exp()}.get(sigma_param) or parse_parameterization(sigma_param)
        if is_global:
            mean_square = ((spec.shift + self.half_range) ** 2 + spec.scale**-2) / self.half_range**2  # eq. 4, from mid grey
            self.raw_scale = nn.Parameter(torch.tensor(0.5 * math.log(mean_square)))

    def forward(self, state: Tensor) -> Normal:
        """Final state `[B, width, H, W]` to the Normals of the pixels, `[B, H, W, C]`."""
        loc, *raw = self.parameters_of(state).split(self.channels, dim=-1)
        return self.scale.normal(self.head.loc(loc), raw[0] if raw else self.raw_scale)

    def nll(self, state: Tensor, target: Tensor) -> Tensor:
        """Negative log density `[B]` of targets `[B, H, W, C]` with noise, nats per dimension, of densities per grey level.

        The noise, uniform in one bin and fresh each time, comes from the global generator. The mean over the noise is at least
        the negative log of the Normal's mass in the bin, so bits per dimension bound those of the grey levels.
        """
        noise = torch.rand_like(target, memory_format=torch.contiguous_format) - 0.5
        log_density = self(state).log_prob(target + self.bin_width * noise)
        return -log_density.mean(dim=(1, 2, 3)) - math.log(self.bin_width)

    @torch.no_grad()
    def scales(self, state: Tensor, target: Tensor) -> PixelScales:
        """The scales and errors that `nll` has before it adds noise."""
        normal = self(state)
        log_sigma = normal.scale.log_sigma.expand(target.shape)
        return PixelScales(log_sigma, (target - normal.loc) * torch.exp(-log_sigma))

    def sample(self, state: Tensor) -> Tensor:
        """Images `[B, H, W, C]` of the grey levels nearest to a draw."""
        return self.nearest_levels(self(state).rsample())

