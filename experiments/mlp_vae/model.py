"""The VAEs of the paper's section 7.2, E members at once in stacked weights."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from stable_params import Bounded, Constant, DownBounded, Exp, NaiveExp, Normal, UpBounded, standard_normal_like
from stable_params.pixels import MEANS
from vdvae.data.sets.mnist import PIXELS

LATENTS = 128
# (in, out) of each layer: 784-128-256 encoder, 128-128-1568 decoder; the first of each is followed by a ReLU.
LAYERS = ((PIXELS, 128), (128, 2 * LATENTS), (LATENTS, 128), (128, 2 * PIXELS))
ALPHA = 1 / (256 * math.sqrt(12))  # standard deviation of noise that is uniform in one grey level of data in [0, 1]
GLOBAL = "Global"
SCALES = {
    "NaiveExp": NaiveExp(),
    "Exp": Exp(),
    "UpBounded1": UpBounded(1.0),
    "DownBounded": DownBounded(ALPHA),
    "Bounded": Bounded(ALPHA, 1.0),
    GLOBAL: NaiveExp(),  # of one learned number instead of one for each pixel
}
ENCODED_SCALE = UpBounded(1.0)


class Cell(NamedTuple):
    """A cell of Table 3: the decoder's scale (a key of SCALES) and its mean head (identity or sigmoid)."""

    scale: str
    mean: str


CELLS = tuple(Cell(scale, mean) for mean in MEANS for scale in SCALES)


class MlpVaes:
    """One VAE for each of `cells`, all with the layers of LAYERS.

    `parameters`: weights `[E, in, out]` and biases `[E, 1, out]` of the four layers in turn, then the raw global scale
    `[E, 1, 1]`. The global scale has a gradient in Global alone, where the second half of the last layer has none.
    Neighbours of the same cell are computed together: sort the cells for speed.
    """

    def __init__(self, cells: Sequence[Cell], parameters: list[Tensor]):
        self.parameters = [parameter.detach().requires_grad_() for parameter in parameters]
        self.groups = [(cell, len(list(same))) for cell, same in groupby(cells)]

    @property
    def members(self) -> int:
        """E."""
        return len(self.parameters[0])

    def posterior(self, images: Tensor) -> Normal:
        """q(z|x) `[E, B, 128]` of images in [0, 1], `[E, B, 784]`."""
        return ENCODED_SCALE.normal(*self._two_layers(images, 0).chunk(2, -1))

    def likelihoods(self, z: Tensor) -> list[Normal]:
        """p(x|z) of the members of each group `[e, B, 784]`, in order, from z `[E, B, 128]`."""
        sizes = [size for _, size in self.groups]
        decoded = self._two_layers(z, 2).split(sizes)
        global_raws = self.parameters[-1].split(sizes)
        return [_likelihood(cell, *arguments) for (cell, _), *arguments in zip(self.groups, decoded, global_raws)]

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) `[E, B]` in nats."""
        parts = images.split([size for _, size in self.groups])
        return torch.cat([normal.log_prob(part).sum(-1) for normal, part in zip(self.likelihoods(z), parts)])

    def negative_elbo(self, images: Tensor, eps: Tensor) -> Tensor:
        """-log p(x|z) + KL(q(z|x) || N(0, 1)) `[E, B]` in nats, from one draw with the noise eps `[E, B, 128]`."""
        posterior = self.posterior(images)
        kl = posterior.kl(standard_normal_like(posterior.loc)).sum(-1)
        return kl - self.log_likelihood(images, posterior.rsample(eps))

    def log_weight(self, images: Tensor, eps: Tensor) -> Tensor:
        """log p(x, z) - log q(z|x) `[E, B]` in nats at one draw of z."""
        posterior = self.posterior(images)
        z = posterior.rsample(eps)
        log_ratio = standard_normal_like(z).log_prob(z) - posterior.log_prob(z)
        return self.log_likelihood(images, z) + log_ratio.sum(-1)

    def _two_layers(self, inputs: Tensor, first: int) -> Tensor:
        weight, bias, last_weight, last_bias = self.parameters[2 * first : 2 * first + 4]
        return torch.baddbmm(last_bias, torch.baddbmm(bias, inputs, weight).relu(), last_weight)


def initial_parameters(seeds: Sequence[int]) -> list[Tensor]:
    """The parameters of one member for each of `seeds`: torch.nn.Linear's uniform start, and a global scale of 1.

    A seed gives the same weights on every device and beside any others.
    """
    drawn = {seed: _draw(torch.Generator().manual_seed(seed)) for seed in dict.fromkeys(seeds)}
    return [torch.stack(same) for same in zip(*(drawn[seed] for seed in seeds))]


def _draw(generator: torch.Generator) -> list[Tensor]:
    shapes = [(shape, inputs) for inputs, outputs in LAYERS for shape in ((inputs, outputs), (1, outputs))]
    drawn = [(2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(inputs) for shape, inputs in shapes]
    return [*drawn, torch.zeros(1, 1)]


def _likelihood(cell: Cell, decoded: Tensor, global_raw: Tensor) -> Normal:
    loc, raw = decoded.chunk(2, -1)
    loc = loc.sigmoid() if cell.mean == "sigmoid" else loc
    return SCALES[cell.scale].normal(loc, global_raw if cell.scale == GLOBAL else raw)
