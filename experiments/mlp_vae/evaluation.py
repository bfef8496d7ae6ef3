"""Measurements of an ensemble: bits per dimension and the smallest decoded scale."""

import math

import torch
from torch import Tensor

from experiments.mlp_vae.data import LEVELS, evaluation_batches
from experiments.mlp_vae.model import MlpVaes
from vdvae.data.sets.mnist import PIXELS
from vdvae.training.importance import log_mean_weight

BATCH = 500


def bits_per_dim(nats: Tensor) -> Tensor:
    """Negative log likelihoods of images in [0, 1], in nats, to bits per dimension on the scale of grey levels, 0..255.

    A density of levels is the density of levels/256 divided by 256, which adds 8 bits to each dimension.
    """
    return nats / (PIXELS * math.log(2)) + math.log2(LEVELS)


@torch.no_grad()
def negative_elbo_bits(vaes: MlpVaes, images: Tensor) -> Tensor:
    """The negative ELBO `[E]`, float64 in bits per dimension, mean over images `[N, 784]` with one draw for each."""
    batches = evaluation_batches(images, vaes.members, BATCH, draws=1)
    total = sum(vaes.negative_elbo(batch, eps[0]).double().sum(1) for batch, eps in batches)
    return bits_per_dim(total / len(images))


@torch.no_grad()
def importance_weighted_bits(vaes: MlpVaes, images: Tensor, samples: int) -> Tensor:
    """The negative importance-weighted bound `[E]` with `samples` draws for each image, in the same units."""
    total = 0
    for batch, eps in evaluation_batches(images, vaes.members, BATCH, samples):
        weights = torch.stack([vaes.log_weight(batch, draw).double() for draw in eps])
        total = total - log_mean_weight(weights).sum(1)
    return bits_per_dim(total / len(images))


@torch.no_grad()
def smallest_scales(vaes: MlpVaes, images: Tensor) -> Tensor:
    """The smallest sigma `[E]` that the decoder gives any pixel of any of the images `[N, 784]`, z drawn from q(z|x).

    NaN for a member where any is NaN.
    """
    smallest = torch.full((vaes.members,), math.inf, device=images.device)
    for batch, eps in evaluation_batches(images, vaes.members, BATCH, draws=1):
        normals = vaes.likelihoods(vaes.posterior(batch).rsample(eps[0]))
        smallest = torch.minimum(smallest, torch.cat([normal.scale.sigma.amin((1, 2)) for normal in normals]))
    return smallest
