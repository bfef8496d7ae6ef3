"""The size of a model and the arithmetic of one image, counted without computing anything."""

from functools import cache
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vdvae import VAE, load_hparams


class Work(NamedTuple):
    """Parameters of a model, and the floating-point operations (FLOP) of one image in each pass."""

    parameters: int
    forward: int
    backward: int


@cache
def count_work(hps: str) -> Work:
    """The work of a hyper-parameter set: convolutions and matrix products, two FLOP for each multiplication and its addition."""
    hparams = load_hparams(["--hps", hps])
    with FakeTensorMode():  # shapes without numbers
        vae, size = VAE(hparams), hparams.image_size
        with FlopCounterMode(display=False) as forward:
            loss = vae(torch.empty(1, 3, size, size), torch.empty(1, size, size, 3)).negative_elbo
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    parameters = sum(parameter.numel() for parameter in vae.parameters())
    return Work(parameters, forward.get_total_flops(), backward.get_total_flops())
