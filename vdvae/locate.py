"""Where an event started: which decoder block, at which resolution, and how extreme its Normals were there.

Everything is read from tensors that the step leaves behind anyway, and only after an event.
"""

import math
import re
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vdvae.decoder import Latent
from vdvae.vae import Elbo


@dataclass(frozen=True)
class Origin:
    """The part of the model where an event started.

    `origin` is encoder, decoder or likelihood; `block` and `resolution` name a decoder block, `quantity` the first of its
    tensors that is not finite, or the largest gradient. The extremes leave NaN entries out and keep infinities; NaN if
    nothing is left. They describe the block's Normals on this rank's batch: log sigmas in nats, location differences
    between posterior and prior in units of the prior's sigma.
    """

    origin: str
    block: int | None = None
    resolution: int | None = None
    quantity: str | None = None
    prior_log_sigma_min: float | None = None
    prior_log_sigma_max: float | None = None
    posterior_log_sigma_min: float | None = None
    posterior_log_sigma_max: float | None = None
    max_loc_diff_over_sigma: float | None = None

    def as_dict(self) -> dict:
        """Field names to values, as in a line of events.jsonl."""
        return asdict(self)


def locate_loss(elbo: Elbo) -> Origin:
    """Where a loss term stopped being finite: the first part of the model, in forward order, with a non-finite tensor."""
    if not elbo.encoding.isfinite().all():
        return Origin("encoder", quantity="activations")
    for index, latent in enumerate(elbo.latents):
        quantity = _first_not_finite(latent)
        if quantity:
            return _block_origin(index, latent, quantity)
    return Origin("likelihood", quantity="distortion")


def locate_gradient(elbo: Elbo, names: list[str], grad_norms: Tensor) -> Origin:
    """Where a bad gradient started, from each parameter's gradient norm `[P]`, its `names` in the same order.

    Gradients flow from the loss back to the encoder: one that is not finite started in the last part, in forward order,
    that it touched; one that is just large is put down to the part with the largest norm.
    """
    totals: dict[tuple[int, int], float] = {}  # (stage in forward order, block) -> squared norm
    for name, norm in zip(names, grad_norms.double().tolist(), strict=True):
        part = _part_of(name)
        totals[part] = totals.get(part, 0.0) + norm**2
    bad = [part for part, total in totals.items() if not math.isfinite(total)]
    stage, block = max(bad) if bad else max(totals, key=totals.get)
    if stage == 1:
        return _block_origin(block, elbo.latents[block], "gradient")
    return Origin("encoder" if stage == 0 else "likelihood", quantity="gradient")


def _part_of(name: str) -> tuple[int, int]:
    """Forward order of a parameter: the encoder is stage 0, decoder blocks stage 1, the output layer stage 2."""
    block = re.search(r"dec_blocks\.(\d+)\.", name)
    if block:
        return 1, int(block[1])
    if "bias_xs" in name:
        return 1, 0
    return (0, 0) if "encoder." in name else (2, 0)


def _first_not_finite(latent: Latent) -> str | None:
    tensors = {
        "prior_loc": latent.prior.loc,
        "prior_log_sigma": latent.prior.scale.log_sigma,
        "posterior_loc": latent.posterior.loc,
        "posterior_log_sigma": latent.posterior.scale.log_sigma,
        "posterior_sigma": latent.posterior.scale.sigma,
        "kl": latent.kl,
        "z": latent.z,
    }
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def _block_origin(index: int, latent: Latent, quantity: str) -> Origin:
    prior, posterior = latent.prior, latent.posterior
    distance = (posterior.loc - prior.loc).abs().double() * torch.exp(-prior.scale.log_sigma.double())
    prior_min, prior_max = _extremes(prior.scale.log_sigma)
    posterior_min, posterior_max = _extremes(posterior.scale.log_sigma)
    return Origin("decoder", index, latent.z.shape[2], quantity, prior_min, prior_max, posterior_min, posterior_max,
                  _extremes(distance)[1])


def _extremes(values: Tensor) -> tuple[float, float]:
    kept = values[~values.isnan()]
    return (kept.min().item(), kept.max().item()) if kept.numel() else (math.nan, math.nan)
