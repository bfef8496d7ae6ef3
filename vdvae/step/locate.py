"""Where an event started: which decoder block, at which resolution, and how extreme its Normals were there.

Only tensors that every update leaves are read, and only after an event.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stable_params import ResidualNormal
from vdvae.model.decoder import Latent
from vdvae.model.likelihood.pixel_layer import PixelScales
from vdvae.model.vae import Elbo
from vdvae.records.lines import Origin
from vdvae.step.step_result import StepResult


def locate(reason: str, result: StepResult, names: list[str]) -> Origin:
    """Where an event with this reason started on this rank; `names` are those of the parameters, in order."""
    elbo = worst_part(result.elbos)
    if reason in ("rate_nan", "distortion_nan"):
        origin = locate_loss(elbo)
    elif reason == "grad_nan":
        origin = locate_nan_gradient(elbo, names, result.grad_norms)
    else:
        origin = locate_high_gradient(elbo)
    return origin if elbo.pixels is None else replace(origin, **worst_pixel(elbo.pixels))


def worst_part(elbos: Sequence[Elbo]) -> Elbo:
    """The part of a batch that caused an event: the first whose loss is not finite, else the one with the largest loss."""
    losses = [elbo.negative_elbo.item() for elbo in elbos]
    return elbos[max(range(len(losses)), key=lambda i: losses[i] if math.isfinite(losses[i]) else math.inf)]


def locate_loss(elbo: Elbo) -> Origin:
    """Where a loss term stopped being finite: the first part of the model, in forward order, with a non-finite tensor."""
    if not elbo.encoding.isfinite().all():
        return Origin("encoder", quantity="activations")
    for index, latent in enumerate(elbo.latents):
        quantity = _first_not_finite(latent)
        if quantity:
            return _block_origin(index, latent, quantity)
    return Origin("likelihood", quantity="distortion")


def locate_nan_gradient(elbo: Elbo, names: list[str], grad_norms: Tensor) -> Origin:
    """Where a gradient stopped being finite though the loss was, from each parameter's gradient norm `[P]`.

    `names` are the parameters' names, in the same order. Gradients flow from the loss back to the encoder, so it started in
    the last part of the model, in forward order, with a norm that is not finite. If every norm is finite and only the sum
    of their squares overflows, the event is treated as a high gradient.
    """
    parts = [_part_of(name) for name, norm in zip(names, grad_norms.tolist(), strict=True) if not math.isfinite(norm)]
    if not parts:
        return locate_high_gradient(elbo)
    stage, block = max(parts)
    if stage == 1:
        return _block_origin(block, elbo.latents[block], "gradient")
    return Origin("encoder" if stage == 0 else "likelihood", quantity="gradient")


def locate_high_gradient(elbo: Elbo) -> Origin:
    """Where a large gradient started: the decoder block whose KL (eq. 8) has the largest gradient in its own Normals.

    It is the likelihood if that is one of Normals, and the gradient of the distortion in them is larger.
    """
    norms = [_kl_gradient_norm(latent) for latent in elbo.latents]
    block = max(range(len(norms)), key=norms.__getitem__)
    if elbo.pixels is not None and _pixel_gradient_norm(elbo.pixels) > norms[block]:
        return Origin("likelihood", quantity="pixel_gradient")
    return _block_origin(block, elbo.latents[block], "kl_gradient")


def _kl_gradient_norm(latent: Latent) -> float:
    """L2 norm of the gradient of the summed KL in the locations and log sigmas that the block emits, in float64.

    Those of a residual posterior are its delta's, and its KL is delta's from N(0, 1).
    """
    if isinstance(latent.posterior, ResidualNormal):
        delta = latent.posterior.delta
        parts = [delta.loc.double(), torch.expm1(2 * delta.scale.log_sigma.double())]
    else:
        log_sigma = latent.prior.scale.log_sigma.double()
        by_log_sigma = torch.expm1(2 * (latent.posterior.scale.log_sigma.double() - log_sigma))
        distance = _distance(latent)
        by_loc = distance * torch.exp(-log_sigma)
        parts = [by_loc, by_loc, by_log_sigma, by_log_sigma + distance**2]
    return torch.linalg.vector_norm(torch.stack(torch.broadcast_tensors(*parts))).item()


def _pixel_gradient_norm(pixels: PixelScales) -> float:
    """The same of the distortion in means and log sigmas, which is error/sigma and 1 - error^2."""
    error, log_sigma = pixels.error.double(), pixels.log_sigma.double()
    return torch.linalg.vector_norm(torch.stack([error * torch.exp(-log_sigma), 1 - error**2])).item()


def worst_pixel(pixels: PixelScales) -> dict:
    """`pixel` and `pixel_log_sigma` of an Origin."""
    by_loc = (pixels.error.abs().log() - pixels.log_sigma).flatten()  # log of the gradient in the mean
    worst = torch.where(by_loc.isnan(), math.inf, by_loc).argmax().item()
    place = np.unravel_index(worst, pixels.log_sigma.shape)[1:]
    return {"pixel": ",".join(map(str, place)), "pixel_log_sigma": pixels.log_sigma.flatten()[worst].item()}


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
    prior_min, prior_max = _extremes(prior.scale.log_sigma)
    posterior_min, posterior_max = _extremes(posterior.scale.log_sigma)
    return Origin("decoder", index, latent.z.shape[2], quantity, prior_min, prior_max, posterior_min, posterior_max,
                  _extremes(_distance(latent).abs())[1])


def _distance(latent: Latent) -> Tensor:
    """From the prior's location to the posterior's, in units of the prior's sigma, in float64."""
    difference = latent.posterior.loc.double() - latent.prior.loc.double()
    return difference * torch.exp(-latent.prior.scale.log_sigma.double())


def _extremes(values: Tensor) -> tuple[float, float]:
    kept = values[~values.isnan()]
    return (kept.min().item(), kept.max().item()) if kept.numel() else (math.nan, math.nan)
