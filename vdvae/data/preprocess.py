"""From uint8 images to the network's input and target: the only place that changes layout and range."""

from typing import NamedTuple

import torch

from vdvae.data.spec import DatasetSpec


class Batch(NamedTuple):
    """input: float32 `[B, C, H, W]`, standardised. target: float32 `[B, H, W, C]` in [-1, 1]."""

    input: torch.Tensor
    target: torch.Tensor


class Preprocess:
    """Maps uint8 images `[B, H, W, C]`, on any device, to a Batch on that device; never changes the images.

    memory_format: of the input, contiguous or channels_last; the target is contiguous.
    input = (x + shift) * scale; target = (x - 127.5) / 127.5, with x floored to a multiple of 8 first where the data
    set is five_bit (the input is not floored). Both share no memory with the images.
    Raises TypeError unless the images are uint8, ValueError unless they have four dimensions.
    """

    def __init__(self, spec: DatasetSpec, memory_format: torch.memory_format = torch.contiguous_format):
        self.spec, self.memory_format = spec, memory_format

    def __call__(self, images: torch.Tensor) -> Batch:
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be torch.uint8, got {images.dtype}")
        if images.ndim != 4:
            raise ValueError(f"images must be [B, H, W, C], got {list(images.shape)}")
        channels_first = images.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)  # [B, C, H, W]
        network_input = (channels_first.float() + self.spec.shift) * self.spec.scale
        levels = images // 8 * 8 if self.spec.five_bit else images
        return Batch(network_input, (levels.contiguous().float() - 127.5) / 127.5)
