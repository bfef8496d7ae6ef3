"""A small client of stable_params, checked by mypy --strict in test_types.py."""

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from stable_params import ExpLin, Normal, Parameterization, StableNormal, parse_parameterization, standard_normal_like


def rate_and_draw(mu: Tensor, raw: Tensor, form: Parameterization = ExpLin()) -> tuple[Tensor, Tensor]:
    """KL to N(0, 1) and a draw."""
    posterior: Normal = form.normal(mu, raw)
    return posterior.kl(standard_normal_like(mu)), posterior.rsample()


def bridge(mu: Tensor, raw: Tensor) -> Tensor:
    """The same KL through torch.distributions."""
    posterior = StableNormal.from_raw(mu, raw, parse_parameterization("upbounded1"))
    sigma: Tensor = posterior.log_scale.exp()
    return kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)) + 0 * sigma
