import math

import pytest
import torch

from stable_params import Softplus

LOG_TWO = math.log(2)


def test_with_the_beta_of_efficient_vdvae_raw_zero_is_the_standard_scale():
    scale = Softplus(LOG_TWO)(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(scale.sigma, torch.ones(3, dtype=torch.float64), rtol=3e-16, atol=0)
    torch.testing.assert_close(scale.log_sigma, torch.zeros(3, dtype=torch.float64), rtol=0, atol=3e-16)


@pytest.mark.parametrize("beta", [LOG_TWO, 1, 3])
def test_it_is_torchs_softplus_where_that_is_accurate(beta):
    raw = torch.linspace(-10, 19 / beta, 301, dtype=torch.float64)
    expected = torch.nn.functional.softplus(raw, beta=beta)
    # torch's adds up the same rounded exponential, in another order.
    torch.testing.assert_close(Softplus(beta)(raw).sigma, expected, rtol=1e-14, atol=0)


def test_log_sigma_is_finite_and_its_slope_beta_where_sigma_underflows():
    raw = torch.tensor([-160.0, -1e4, -1e30], requires_grad=True)
    scale = Softplus(LOG_TWO)(raw)
    assert scale.sigma.tolist() == [0, 0, 0]
    expected = torch.tensor([LOG_TWO * p - math.log(LOG_TWO) for p in raw.tolist()])
    torch.testing.assert_close(scale.log_sigma, expected, rtol=1.2e-7, atol=0)
    (slope,) = torch.autograd.grad(scale.log_sigma.sum(), raw)
    torch.testing.assert_close(slope, torch.full((3,), LOG_TWO), rtol=0, atol=0)


def test_sigma_that_underflows_is_plain_zero():
    assert not Softplus(1)(torch.full((20,), -1e4)).sigma.signbit().any()


@pytest.mark.parametrize("beta", [LOG_TWO, 4])
def test_sigma_is_raw_itself_far_above_even_where_beta_raw_overflows(beta):
    raw = torch.tensor([60.0, 1e30, 3e38, torch.inf], requires_grad=True)
    scale = Softplus(beta)(raw)
    assert torch.equal(scale.sigma, raw)
    assert torch.equal(scale.log_sigma[:3], raw[:3].log())
    assert torch.autograd.grad(scale.sigma.sum(), raw)[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("beta", [LOG_TWO, 1, 4])
@pytest.mark.parametrize("name, side", [("sigma", 1), ("log_sigma", -1)])
def test_branches_meet_in_value_and_slope(dtype, beta, name, side):
    # The branch points are beta p = -log eps and log eps: the neglected term is at most eps/2 of the slope there.
    eps, point = torch.finfo(dtype).eps, -side * math.log(torch.finfo(dtype).eps) / beta
    raw = (point * (1 + eps * torch.arange(-8, 9, dtype=dtype))).requires_grad_()
    field = getattr(Softplus(beta)(raw), name)
    slope = torch.autograd.grad(field.sum(), raw)[0]
    exact_slope = 1 if side > 0 else beta
    rounding = field.detach() - exact_slope * (raw.detach() - raw[8].item())
    # Three roundings of half an ULP on either side of a step of the function: constant or product, exponent, result.
    torch.testing.assert_close(rounding, rounding[8].expand(17), rtol=3 * eps, atol=0)
    torch.testing.assert_close(slope, torch.full_like(slope, exact_slope), rtol=3 * eps, atol=0)


@pytest.mark.parametrize("beta", [0, -LOG_TWO, math.inf, math.nan])
def test_impossible_beta_is_refused_by_name(beta):
    with pytest.raises(ValueError, match=f"beta must be finite and above 0, got {beta}"):
        Softplus(beta)
