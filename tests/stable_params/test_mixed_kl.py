"""The KL of every two parameterizations, which gets the ratio of their sigmas from products, against their log sigmas."""

import itertools

import pytest
import torch

from stable_params import DownBounded, Exp, ExpLin, UpBounded

MIXED = (Exp(), ExpLin(), UpBounded(1.0), UpBounded(256.0), DownBounded(0.1))
# Compiled, one of each: a quotient of any two numbers, one of two that are at most 2, one log sigma of either kind.
COMPILED = ((ExpLin(), ExpLin()), (UpBounded(1.0), UpBounded(1.0)), (ExpLin(), UpBounded(1.0)), (UpBounded(1.0), Exp()))


@pytest.mark.parametrize("posterior, prior", list(itertools.product(MIXED, MIXED)), ids=lambda form: form.flag)
def test_kl_of_mixed_parameterizations_is_that_of_their_log_sigmas(posterior, prior):
    check_against_log_sigmas(posterior, prior, lambda *tensors: kl_of(posterior, prior, *tensors))


@pytest.mark.parametrize("posterior, prior", COMPILED, ids=lambda form: form.flag)
def test_compiled_kl_is_that_of_the_log_sigmas_too(posterior, prior):
    torch.compiler.reset()
    compiled = torch.compile(lambda *tensors: kl_of(posterior, prior, *tensors), fullgraph=True)
    check_against_log_sigmas(posterior, prior, compiled)


def kl_of(posterior, prior, loc, raw, prior_loc, prior_raw):
    return posterior.normal(loc, raw).kl(prior.normal(prior_loc, prior_raw))


def check_against_log_sigmas(posterior, prior, kl_function):
    raws = torch.cat([-torch.logspace(-3, 1.2, 40), torch.logspace(-3, 1.2, 40)])
    leaves = [grid.flatten().requires_grad_() for grid in torch.meshgrid(raws, raws, indexing="ij")]
    loc, prior_loc = torch.full_like(leaves[0], 0.25), torch.full_like(leaves[0], -0.5)
    kl = kl_function(loc, leaves[0], prior_loc, leaves[1])
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


# Of the quotient of 1.5 and 1e6 less 1, seven digits hold one of log 1.5/1e6; of that of 1.0001 and 1.0003, four of its log.
@pytest.mark.parametrize("pair", [(0.5, 1e6), (1e6, 0.5), (1e-4, 3e-4), (3e-4, 1e-4)], ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_kl_keeps_its_digits_where_explin_s_two_sigmas_are_far_apart_or_close(compiled, pair):
    function = torch.compile(kl_of, fullgraph=True) if compiled else kl_of
    raw, prior_raw, zero = (torch.tensor([value]) for value in (*pair, 0.0))
    kl = function(ExpLin(), ExpLin(), zero, raw, zero, prior_raw)
    r = torch.log1p(raw.double()) - torch.log1p(prior_raw.double())
    torch.testing.assert_close(kl.double(), 0.5 * (torch.expm1(2 * r) - 2 * r), rtol=5e-7, atol=0)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_kl_to_a_prior_of_infinite_sigma_is_infinite(compiled):
    function = torch.compile(kl_of, fullgraph=True) if compiled else kl_of
    zero, infinite = torch.zeros(1), torch.full((1,), float("inf"))
    assert function(ExpLin(), ExpLin(), zero, zero, zero, infinite).item() == float("inf")


@pytest.mark.parametrize("dtype, far", [(torch.float64, 800.0), (torch.float32, 120.0), (torch.float16, 12.0)], ids=str)
def test_compiled_kl_where_sigma_is_out_of_range_is_the_eager_one_in_its_dtype(dtype, far):
    torch.compiler.reset()
    # A sigma that is no normal number, one whose inverse is none, and 1.
    log_sigma = torch.tensor([-far, far, 0.0], dtype=dtype)
    loc = torch.tensor([0.0, 0.0, 0.25], dtype=dtype)
    loc[0] = 4 * torch.finfo(dtype).smallest_normal
    leaves = [loc.requires_grad_(), log_sigma.clone().requires_grad_()]
    results = []
    for function in (kl_of, torch.compile(kl_of, fullgraph=True)):
        kl = function(Exp(), Exp(), *leaves, torch.zeros_like(loc), log_sigma)
        results.append((kl, *torch.autograd.grad(kl.sum(), leaves)))
    for eager, compiled in zip(*results):
        assert compiled.dtype == dtype
        torch.testing.assert_close(compiled, eager, rtol=far * torch.finfo(dtype).eps, atol=0)
