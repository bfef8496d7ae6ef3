"""From images of grey levels to the network's input and target: the only place that changes layout and range."""

from typing import NamedTuple

import torch

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
    five_bit, x is floored to a multiple of 8 for the target alone. Both share no memory with the images.
    Raises TypeError unless the images are uint8, uint16 if they have more than 8 bits, and ValueError unless they have four dimensions.
    """

    def __init__(self, spec: DatasetSpec, memory_format: torch.memory_format = torch.contiguous_format):
        self.spec, self.memory_format = spec, memory_format

    def __call__(self, images: torch.Tensor) -> Batch:
        expected = torch.uint8 if self.spec.bits <= 8 else torch.uint16
        if images.dtype != expected:
            raise TypeError(f"images of {self.spec.bits} bits must be {expected}, got {images.dtype}")
        if images.ndim != 4:
            raise ValueError(f"images must be [B, H, W, C], got {list(images.shape)}")
        channels_first = images.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)  # [B, C, H, W]
        network_input = (channels_first.float() + self.spec.shift) * self.spec.scale
        levels = images // 8 * 8 if self.spec.five_bit else images
        half = self.spec.top_level / 2
        return Batch(network_input, (levels.contiguous().float() - half) / half)
