"""The importance-weighted bound on the log likelihood (Burda 2016, arXiv 1509.00519) over a whole set of images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vdvae.data.images import ImageSet
from vdvae.data.preprocess import Batch, Preprocess
from vdvae.model.decoder import Latent
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.records.train_window import LN2
from vdvae.training.evaluate import own_batches


@torch.no_grad()
def importance_weighted(vae: VAE, images: ImageSet, preprocess: Preprocess, n_batch: int, world: World, seed: int,
                        samples: int) -> dict:
    """The negative bound with `samples` draws an image, mean over `images`, the same dict on all ranks.

    `iw_elbo` is in nats per dimension, `iw_bits_per_dim` and `iw_standard_error` (of the mean over images; NaN for one
    image) in bits per dimension. Images, noise and ranks are those of `evaluate`. NaN if any image's bound is.
    """
    bounds = own_bounds(vae, images, preprocess, n_batch, world, seed, samples)
    total, count = world.sum(torch.stack([bounds.sum(), bounds.new_tensor(len(bounds))])).tolist()
    mean = total / count
    squares = world.sum((bounds - mean).square().sum()[None]).item()
    error = math.sqrt(squares / (count - 1) / count) if count > 1 else math.nan
    return {"iw_elbo": mean, "iw_bits_per_dim": mean / LN2, "iw_standard_error": error / LN2,
            "importance_samples": samples}


@torch.no_grad()
def own_bounds(vae: VAE, images: ImageSet, preprocess: Preprocess, n_batch: int, world: World, seed: int,
               samples: int) -> Tensor:
    """The negative bound of each image of this rank, float64 in nats per dimension."""
    bounds = [torch.zeros(0, dtype=torch.float64, device=world.device)]
    with own_noise(seed, world):
        for batch in own_batches(images, preprocess, n_batch, world):
            bounds.append(_batch_bounds(vae, batch, samples))
    return torch.cat(bounds)


def log_weights(distortion: Tensor, latents: Sequence[Latent], dimensions: int) -> Tensor:
    """log p(x, z) - log q(z|x) of one draw for each image, float64 `[B]` in nats.

    `distortion` is -log p(x|z) in nats per dimension, `[B]`; the draws and their densities are those of `latents`. The
    densities at the draws count, not the analytic KL. Each is float32 for each element, their sums are float64.
    """
    total = -distortion.double() * dimensions
    for z, prior, posterior in ((latent.z, latent.prior, latent.posterior) for latent in latents):
        log_ratio = prior.log_prob(z).double() - posterior.log_prob(z).double()
        total = total + log_ratio.sum(dim=(1, 2, 3))
    return total


def log_mean_weight(weights: Tensor) -> Tensor:
    """Log weights `[K, B]` of K draws to the log of the weights' mean `[B]`, in nats."""
    return torch.logsumexp(weights, dim=0) - math.log(len(weights))


def _batch_bounds(vae: VAE, batch: Batch, samples: int) -> Tensor:
    activations, dimensions = vae.encoder(batch.input), batch.target[0].numel()
    draws = []
    for _ in range(samples):
        score = vae.score(activations, batch.target)
        draws.append(log_weights(score.distortion, score.latents, dimensions))
    return -log_mean_weight(torch.stack(draws)) / dimensions
