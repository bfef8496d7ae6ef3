"""A Bernoulli for each channel of a pixel, on images in black and white."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vdvae.data.spec import DatasetSpec
from vdvae.model.likelihood.pixel_layer import PixelLayer


class BernoulliPixels(PixelLayer):
    """The decoder gives the log odds of white; targets are -1 and 1, as Preprocess makes them with `binarize`."""

    def __init__(self, width: int, spec: DatasetSpec):
        super().__init__(width, spec.channels, spec)

    def nll(self, state: Tensor, target: Tensor) -> Tensor:
        """-log p `[B]` in nats per dimension of targets `[B, H, W, C]`: log(1 + exp(-logit)) for white."""
        return F.softplus(-target * self.parameters_of(state)).mean(dim=(1, 2, 3))

    def sample(self, state: Tensor) -> Tensor:
        """Images `[B, H, W, C]` of black and white, 0 and the top grey level."""
        white = self.parameters_of(state).sigmoid()
        return self.nearest_levels((torch.rand_like(white) < white).float() * 2 - 1)
