"""The numbers of a floating-point dtype in ascending order, and their spacing."""

import torch
from torch import Tensor

BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def floats_of(keys: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers of `dtype` with the given int64 keys, which count them in ascending order: -1 is -0.0, 0 is +0.0."""
    highest = torch.iinfo(BITS[dtype]).max
    return torch.where(keys < 0, keys ^ highest, keys).to(BITS[dtype]).view(dtype)


def key_of(number: float, dtype: torch.dtype) -> int:
    """The key of a number, the inverse of `floats_of`."""
    bits = torch.tensor(number, dtype=dtype).view(BITS[dtype]).item()
    return bits if bits >= 0 else bits ^ torch.iinfo(BITS[dtype]).max


def ulp(values: Tensor, info: torch.finfo) -> Tensor:
    """Spacing of a dtype's numbers at float64 `values`, that of its subnormal numbers included."""
    power = (values.view(torch.int64) & 0x7FF0000000000000).view(torch.float64)  # 2 to the floor of log2 |value|
    return power.mul_(info.eps).clamp_(min=info.tiny * info.eps)
