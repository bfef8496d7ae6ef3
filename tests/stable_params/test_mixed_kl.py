"""The KL of every two parameterizations, which gets the ratio of their sigmas from products, against their log sigmas."""

import itertools

import pytest
import torch

from stable_params import DownBounded, Exp, ExpLin, UpBounded

MIXED = (Exp(), ExpLin(), UpBounded(1.0), UpBounded(256.0), DownBounded(0.1))


@pytest.mark.parametrize("posterior, prior", list(itertools.product(MIXED, MIXED)), ids=lambda form: form.flag)
def test_kl_of_mixed_parameterizations_is_that_of_their_log_sigmas(posterior, prior):
    raws = torch.cat([-torch.logspace(-3, 1.2, 40), torch.logspace(-3, 1.2, 40)])
    leaves = [grid.flatten().requires_grad_() for grid in torch.meshgrid(raws, raws, indexing="ij")]
    loc, prior_loc = torch.full_like(leaves[0], 0.25), torch.full_like(leaves[0], -0.5)
    kl = posterior.normal(loc, leaves[0]).kl(prior.normal(prior_loc, leaves[1]))
    gradients = torch.autograd.grad(kl.sum(), leaves)

    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    logs = [form(double).log_sigma for form, double in zip((posterior, prior), doubles)]
    r, x = logs[0] - logs[1], 0.75 * torch.exp(-logs[1])
    expected = 0.5 * (torch.expm1(2 * r) - 2 * r + x**2)
    expected_gradients = torch.autograd.grad(expected.sum(), doubles, retain_graph=True)
    # 4 ULP, and what half an ULP of each raw and half an ULP of each log sigma and of 1 causes.
    by_log = torch.autograd.grad(expected.sum(), logs)
    ulps = [2.0**-24 * (double.abs() + 1 + log.abs()) for double, log in zip(doubles, logs)]
    allowed = 2**-21 * expected + sum(slope.abs() * half for slope, half in zip(by_log, ulps))
    assert ((kl - expected).abs() <= allowed).all()
    for gradient, want in zip(gradients, expected_gradients):
        torch.testing.assert_close(gradient.double(), want, rtol=1e-4, atol=1e-6)


def test_kl_keeps_its_digits_where_explin_s_two_sigmas_are_far_apart():
    # Of the quotient of 1.5 and 1e6 less 1, seven digits hold one of log 1.5/1e6.
    small, large, zero = torch.tensor([0.5]), torch.tensor([1e6]), torch.zeros(1)
    for raw, prior_raw in ((small, large), (large, small)):
        kl = ExpLin().normal(zero, raw).kl(ExpLin().normal(zero, prior_raw))
        r = torch.log1p(raw.double()) - torch.log1p(prior_raw.double())
        torch.testing.assert_close(kl.double(), 0.5 * (torch.expm1(2 * r) - 2 * r), rtol=5e-7, atol=0)
