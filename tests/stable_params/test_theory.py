"""The bounds of docs/theory.md on the gradient of the KL by each output of the network."""

import math

import pytest
import torch

from stable_params import Bounded, Constant, DownBounded, Exp, ExpLin, ResidualNormal, UpBounded

ALPHA = 0.3
RAW = torch.cat([-torch.logspace(-3, 2, 15), torch.zeros(1), torch.logspace(-3, 2, 15)]).double()
DISTANCES = torch.cat([torch.zeros(1), torch.logspace(-3, 6, 15)]).double()


def gradients(posterior, prior, residual: bool = False):
    """sigma and D on the grid of both raw outputs and the means' distance, and |dK| by mu, mu', raw and raw'."""
    raw, prior_raw, distance = torch.meshgrid(RAW, RAW, DISTANCES, indexing="ij")
    outputs = [each.clone().requires_grad_() for each in (distance, torch.zeros_like(raw), raw, prior_raw)]
    loc, prior_loc, raw, prior_raw = outputs
    p = prior.normal(prior_loc, prior_raw)
    q = posterior.normal(loc, raw)
    kl = (ResidualNormal(q, p) if residual else q).kl(p)
    found = torch.autograd.grad(kl.sum(), outputs, allow_unused=True)
    return q.scale.sigma.detach(), distance, [torch.zeros_like(distance) if each is None else each.abs() for each in found]


def at_most(gradient, bound) -> bool:
    return bool((gradient <= torch.as_tensor(bound, dtype=torch.float64) * (1 + 1e-9)).all())


@pytest.mark.parametrize("prior", [Bounded(ALPHA, 1), DownBounded(ALPHA)], ids=lambda prior: prior.flag)
@pytest.mark.parametrize("posterior", [UpBounded(1), ExpLin()], ids=lambda posterior: posterior.flag)
def test_a_lower_bound_under_the_prior_bounds_the_gradient(posterior, prior):
    sigma, distance, (by_loc, by_prior_loc, by_raw, by_prior_raw) = gradients(posterior, prior)
    assert at_most(by_loc, distance / ALPHA**2) and at_most(by_prior_loc, distance / ALPHA**2)
    ratio = 1 / ALPHA**2 if posterior == UpBounded(1) else sigma / ALPHA**2
    assert at_most(by_raw, torch.clamp(torch.as_tensor(ratio), min=1))
    assert at_most(by_prior_raw, torch.clamp((sigma**2 + distance**2) / ALPHA**2, min=1))


@pytest.mark.parametrize("posterior, steepest", [(UpBounded(1), lambda sigma: 1), (ExpLin(), lambda sigma: sigma.clamp(min=1))])
def test_with_a_constant_prior_the_gradient_grows_with_the_distance_alone(posterior, steepest):
    sigma, distance, (by_loc, by_prior_loc, by_raw, by_prior_raw) = gradients(posterior, Constant(1))
    assert at_most(by_loc, distance) and at_most(by_prior_loc, distance)
    assert at_most(by_raw, steepest(sigma)) and at_most(by_prior_raw, 0)


@pytest.mark.parametrize("scale", [Exp(), ExpLin(), UpBounded(1)], ids=lambda scale: scale.flag)
def test_without_a_lower_bound_a_small_distance_is_enough_to_overflow(scale):
    """At a distance of 1, where the prior's log sigma is -44.5 or smaller, beyond float32's largest number by the means."""
    loc = torch.ones((), dtype=torch.float64, requires_grad=True)
    small = torch.tensor(-44.5 - (math.log(0.5) if scale == UpBounded(1) else 0), dtype=torch.float64)
    kl = scale.normal(loc, small).kl(scale.normal(torch.zeros_like(loc), small))
    (gradient,) = torch.autograd.grad(kl, loc)
    assert gradient > torch.finfo(torch.float32).max


@pytest.mark.parametrize("posterior, steepest", [(UpBounded(1), lambda sigma: 1), (ExpLin(), lambda sigma: sigma.clamp(min=1))])
@pytest.mark.parametrize("prior", [Exp(), UpBounded(1), Bounded(ALPHA, 1)], ids=lambda prior: prior.flag)
def test_a_residual_posterior_has_no_gradient_by_its_prior(posterior, steepest, prior):
    sigma, distance, (by_loc, by_prior_loc, by_raw, by_prior_raw) = gradients(posterior, prior, residual=True)
    assert at_most(by_loc, distance) and at_most(by_prior_loc, 0) and at_most(by_prior_raw, 0)
    assert at_most(by_raw, steepest(sigma))


@pytest.mark.parametrize("posterior, prior, nats", [
    (ExpLin(), Constant(1), 0), (UpBounded(2), Constant(1), 0), (ExpLin(), Bounded(0.25, 1.75), 0), (UpBounded(1), UpBounded(1), 0),
    (UpBounded(1), Constant(1), math.log(2) - 3 / 8), (ExpLin(), DownBounded(1), math.log(2) - 3 / 8)],
    ids=lambda value: getattr(value, "flag", None))
def test_scales_that_start_alike_begin_without_a_rate(posterior, prior, nats):
    zero = torch.zeros((), dtype=torch.float64)
    assert posterior.normal(zero, zero).kl(prior.normal(zero, zero)).item() == pytest.approx(nats, abs=1e-12)
