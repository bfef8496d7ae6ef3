"""The KL from (loc, log sigma) pairs, as this library, the original VDVAE and torch.distributions have it."""

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from stable_params import Exp


def ours(loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor) -> Tensor:
    """stable_params with sigma = exp p."""
    return Exp().normal(loc, log_sigma).kl(Exp().normal(prior_loc, prior_log_sigma))


def vdvae(loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor) -> Tensor:
    """The formula of Child 2020's code, both scales squared."""
    squares = torch.exp(log_sigma) ** 2 + (loc - prior_loc) ** 2
    return -0.5 + prior_log_sigma - log_sigma + 0.5 * squares / (torch.exp(prior_log_sigma) ** 2)


def vdvae_draw(loc: Tensor, log_sigma: Tensor, eps: Tensor) -> Tensor:
    """Its draw, with the noise given."""
    return torch.exp(log_sigma) * eps + loc


def torch_distributions(loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor) -> Tensor:
    """kl_divergence of torch.distributions, which takes sigma and refuses 0 unless told not to look."""
    pairs = ((loc, log_sigma), (prior_loc, prior_log_sigma))
    return kl_divergence(*(torch.distributions.Normal(mean, log.exp(), validate_args=False) for mean, log in pairs))
