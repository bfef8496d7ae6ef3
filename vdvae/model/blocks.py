"""The bottleneck block that encoder and decoder are made of."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def conv(in_width: int, out_width: int, kernel_size: int) -> nn.Conv2d:
    """A convolution that keeps the resolution: PyTorch's default weights, zero bias."""
    layer = nn.Conv2d(in_width, out_width, kernel_size, padding=kernel_size // 2)
    nn.init.zeros_(layer.bias)
    return layer


def scale_weight(layer: nn.Conv2d, factor: float) -> None:
    """Multiply a layer's initial weight in place."""
    layer.weight.data.mul_(factor)


def gelu(x: Tensor) -> Tensor:
    """GELU in the precision of the convolution that follows: autocast's where it is on, else that of x."""
    device = x.device.type
    rounded = device != "meta" and torch.is_autocast_enabled(device)  # meta tensors have no numbers to round
    return F.gelu(x.to(torch.get_autocast_dtype(device)) if rounded else x)


def run_block(block: nn.Module, *inputs: Tensor, again: bool) -> Any:
    """block(*inputs); with `again`, its activations are not kept but computed again in the backward pass."""
    if again and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


class Block(nn.Module):
    """GELU then convolution, four times: 1x1 in, two 3x3 (1x1 where resolution <= 2), 1x1 out.

    Input `[B, in_width, res, res]`, output `[B, out_width, res / down_rate, res / down_rate]`. `residual` adds the input,
    before the average pooling by `down_rate`.
    """

    def __init__(self, in_width: int, middle_width: int, out_width: int, resolution: int, *,
                 residual: bool = False, down_rate: int | None = None):
        super().__init__()
        self.residual = residual
        self.down_rate = down_rate
        middle_kernel = 3 if resolution > 2 else 1
        self.c1 = conv(in_width, middle_width, 1)
        self.c2 = conv(middle_width, middle_width, middle_kernel)
        self.c3 = conv(middle_width, middle_width, middle_kernel)
        self.c4 = conv(middle_width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.after_c1(self.c1(gelu(x)))
        h = x + h if self.residual else h
        return h if self.down_rate is None else F.avg_pool2d(h, self.down_rate)

    def after_c1(self, h: Tensor) -> Tensor:
        """The block without its first GELU and convolution, residual sum and pooling: `[B, middle_width, res, res]`."""
        for layer in (self.c2, self.c3, self.c4):
            h = layer(gelu(h))
        return h
