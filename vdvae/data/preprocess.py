"""From images of grey levels to the network's input and target: the only place that changes layout and range."""

from typing import NamedTuple

import torch

from vdvae.data.images import dtype_of
from vdvae.data.spec import DatasetSpec


class Batch(NamedTuple):
    """input: float32 `[B, C, H, W]`, standardised. target: float32 `[B, H, W, C]` in [-1, 1]."""

    input: torch.Tensor
    target: torch.Tensor


class Preprocess:
    """Maps uint8 or uint16 images `[B, H, W, C]`, on any device, to a Batch on that device; never changes the images.

    spec: that of the run, `hparams.dataset_spec`.
    memory_format: of the input, contiguous or channels_last; the target is contiguous.
    input = (x + shift) * scale; target = (x - h) / h with h half the top grey level, 127.5 in 8 bits. Where the data set is
    five_bit, x is floored to a multiple of 8 for the target alone; where it binarizes, x is 0 or the top level for both.
    Neither shares memory with the images.
    Raises TypeError unless the images are uint8, uint16 if they have more than 8 bits, and ValueError unless they have four
    dimensions.
    """

    def __init__(self, spec: DatasetSpec, memory_format: torch.memory_format = torch.contiguous_format):
        self.spec, self.memory_format = spec, memory_format

    def __call__(self, images: torch.Tensor) -> Batch:
        expected = dtype_of(self.spec.bits)
        if images.dtype != expected:
            raise TypeError(f"images of {self.spec.bits} bits must be {expected}, got {images.dtype}")
        if images.ndim != 4:
            raise ValueError(f"images must be [B, H, W, C], got {list(images.shape)}")
        levels = images if self.spec.binarize is None else self._black_and_white(images)
        channels_first = levels.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)  # [B, C, H, W]
        network_input = (channels_first.float() + self.spec.shift) * self.spec.scale
        levels = levels // 8 * 8 if self.spec.five_bit else levels
        half = self.spec.top_level / 2
        return Batch(network_input, (levels.contiguous().float() - half) / half)

    def _black_and_white(self, images: torch.Tensor) -> torch.Tensor:
        """0 and the top level; at random a pixel is white with probability x / top, drawn anew from the global generator."""
        share = images.float() / self.spec.top_level
        is_white = share > (torch.rand(share.shape, device=share.device) if self.spec.binarize == "random" else 0.5)
        return is_white * self.spec.top_level
