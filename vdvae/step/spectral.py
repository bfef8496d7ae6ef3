"""NVAE's way to stability: a penalty on the largest singular value of every convolution (Vahdat & Kautz 2020, section 3.2)."""

from collections import defaultdict

import torch
from torch import Tensor, nn

FIRST_STEPS = 10  # of the power iteration before the first update, as in NVAE's code


class SpectralPenalty:
    """The sum of the largest singular values of `model`'s convolutions, for its value and its gradient.

    A weight `[out, in, k, k]` counts as the matrix `[out, in k k]`. Its singular vectors u and v are followed by power
    iteration (Miyato 2018, arXiv 1802.05957), one step an update, and held constant in the gradient u vᵀ. Weights of one
    shape are iterated together. A weight that is zero counts 0, with gradient 0, and keeps its vectors. The first
    vectors are drawn with `seed`; all is float32, on the weights' device, and the same on all ranks.
    """

    def __init__(self, model: nn.Module, seed: int):
        by_shape = defaultdict(list)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                by_shape[layer.weight.shape].append(layer.weight)
        self.groups = list(by_shape.values())
        generator = torch.Generator().manual_seed(seed)
        self.left = [_drawn(group, 0, generator) for group in self.groups]  # u, [n, out, 1] each
        self.right = [_drawn(group, 1, generator) for group in self.groups]  # v, [n, in k k, 1] each
        for _ in range(FIRST_STEPS):
            self._step()

    @property
    def vectors(self) -> list[Tensor]:
        """The singular vectors, on which the next step depends besides the weights."""
        return [*self.left, *self.right]

    def load(self, vectors: list[Tensor]) -> None:
        """Set `vectors` to saved ones; raises ValueError when they belong to another model."""
        if [each.shape for each in vectors] != [each.shape for each in self.vectors]:
            raise ValueError("the singular vectors of the spectral penalty belong to another model")
        for mine, saved in zip(self.vectors, vectors):
            mine.copy_(saved)

    @torch.no_grad()
    def add_gradient(self, strength: float) -> Tensor:
        """One step; add `strength` times the sum's gradient to the weights' `.grad`; returns the sum, a scalar."""
        values = self._step()
        for group, u, v, value in zip(self.groups, self.left, self.right, values):
            slopes = (strength * (value != 0)) * u @ v.mT
            torch._foreach_add_([weight.grad for weight in group],
                                [slope.view_as(weight) for slope, weight in zip(slopes, group)])
        return torch.cat([value.flatten() for value in values]).sum()

    @torch.no_grad()
    def _step(self) -> list[Tensor]:
        """v ← Wᵀu, u ← Wv, each brought to length 1; returns uᵀWv, `[n, 1, 1]` for each group."""
        values = []
        for group, u, v in zip(self.groups, self.left, self.right):
            matrices = torch.stack([weight.flatten(1) for weight in group])
            _turn(v, matrices.mT @ u)
            image = matrices @ v
            _turn(u, image)
            values.append(u.mT @ image)
        return values


def _drawn(group: list[Tensor], side: int, generator: torch.Generator) -> Tensor:
    vectors = torch.randn(len(group), group[0].flatten(1).shape[side], 1, generator=generator)
    return (vectors / vectors.norm(dim=1, keepdim=True)).to(group[0].device)


def _turn(vectors: Tensor, image: Tensor) -> None:
    """Overwrite unit vectors `[n, length, 1]` with the directions of their images; a vector whose image is 0 stays."""
    length = image.norm(dim=1, keepdim=True)
    vectors.copy_(torch.where(length == 0, vectors, image / length))
