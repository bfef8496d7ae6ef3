"""The loss over a whole set of images: each image once, whatever the number of ranks."""

import math
from collections.abc import Iterator

import torch

from vdvae.data.images import ImageSet
from vdvae.data.preprocess import Batch, Preprocess
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.records.train_window import LN2


@torch.no_grad()
def evaluate(vae: VAE, images: ImageSet, preprocess: Preprocess, n_batch: int, world: World, seed: int) -> dict:
    """Mean loss over `images`, in nats and bits per dimension, the same dict on all ranks.

    Rank r scores images r, r + size, ... in batches of `n_batch`. The noise depends on the seed and the rank alone, and
    training's random state stays as it is. `elbo` is NaN if one image's is; `filtered_elbo` leaves such images out.
    `rate_per_block` has each decoder block's share of `rate`, in block order.
    """
    # sums: elbo, distortion, rate, images; finite elbos, their number; batches; the rate of each block
    sums = torch.zeros(7 + len(vae.latent_shapes), dtype=torch.float64, device=world.device)
    with own_noise(seed, world):
        for batch in own_batches(images, preprocess, n_batch, world):
            sums += _batch_sums(vae, batch.input, batch.target)
    elbo, distortion, rate, count, finite, finite_count, batches, *blocks = world.sum(sums).tolist()
    return {
        "n_images": int(count), "n_batches": int(batches), "elbo": elbo / count,
        "filtered_elbo": finite / finite_count if finite_count else math.nan,
        "distortion": distortion / count, "rate": rate / count, "bits_per_dim": elbo / count / LN2,
        "rate_per_block": [block / count for block in blocks],
    }


def own_batches(images: ImageSet, preprocess: Preprocess, n_batch: int, world: World) -> Iterator[Batch]:
    """The images that this rank scores (r, r + size, ...), in batches of `n_batch` on its device."""
    mine = range(world.rank, len(images), world.size)
    for start in range(0, len(mine), n_batch):
        yield preprocess(images.__getitems__(list(mine[start : start + n_batch])).to(world.device))


def _batch_sums(vae: VAE, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    score = vae(input, target)
    distortion, rate = score.distortion.double(), score.rate.double()
    elbo = distortion + rate
    finite = elbo.isfinite()
    one = torch.ones((), dtype=torch.float64, device=elbo.device)
    figures = torch.stack([elbo.sum(), distortion.sum(), rate.sum(), one * len(elbo),
                           elbo[finite].sum(), finite.sum().double(), one])
    blocks = score.kl_per_block.double().sum(dim=1) / target[0].numel()
    return torch.cat([figures, blocks])
