import math

import pytest
import torch

from stable_params import HardClamp, SoftClamp

RAW = torch.cat([torch.linspace(-120, 120, 4001), torch.tensor([-1e4, 1e4, -torch.inf, torch.inf])])


def test_soft_clamp_keeps_log_sigma_between_the_floor_and_the_limit():
    scale = SoftClamp(5, 0.01)(RAW)
    # exp(5), exp(-5) and their logs are correct to two ULP.
    lowest, highest = math.exp(-5) + 0.01, math.exp(5) + 0.01
    for value, want in ((scale.sigma.min(), lowest), (scale.sigma.max(), highest)):
        torch.testing.assert_close(value, torch.tensor(want), rtol=2.4e-7, atol=0)
    for value, want in ((scale.log_sigma.min(), lowest), (scale.log_sigma.max(), highest)):
        torch.testing.assert_close(value, torch.tensor(math.log(want)), rtol=2.4e-7, atol=0)


def test_soft_clamp_is_the_identity_of_log_sigma_near_zero_and_dies_far_away():
    raw = torch.tensor([-1e-3, 0.0, 1e-3, 60.0, -60.0], requires_grad=True)
    scale = SoftClamp(5, 0)(raw)
    # tanh(x) = x - x^3/3: 5 tanh(p/5) is p to a relative (p/5)^2/3, 1.4e-8 here, and three roundings of half an ULP.
    torch.testing.assert_close(scale.log_sigma[:3], raw[:3], rtol=2e-7, atol=0)
    slope = torch.autograd.grad(scale.log_sigma.sum(), raw)[0]
    torch.testing.assert_close(slope[:3], torch.ones(3), rtol=2e-7, atol=0)
    assert slope[3:].tolist() == [0, 0]


def test_soft_clamp_without_floor_is_the_limit_of_small_floors():
    without, small = SoftClamp(5, 0)(RAW), SoftClamp(5, 1e-30)(RAW)
    for exact, near in zip(without, small):
        torch.testing.assert_close(near, exact, rtol=1.2e-7, atol=1.2e-7)


def test_soft_clamp_log_sigma_is_finite_where_its_sigma_overflows():
    scale = SoftClamp(100, 0.01)(torch.tensor([1e4]))
    assert scale.sigma.item() == torch.inf and scale.log_sigma.item() == 100


def test_hard_clamp_is_that_of_log_variance_to_minus_30_and_20():
    logvar = torch.linspace(-60, 60, 999)
    scale = HardClamp(-15, 10)(logvar / 2)
    assert torch.equal(scale.log_sigma, logvar.clamp(-30, 20) / 2)
    assert torch.equal(scale.sigma, (logvar.clamp(-30, 20) / 2).exp())


def test_hard_clamp_reaches_its_bounds_and_has_no_slope_there():
    raw = torch.tensor([-torch.inf, -15.0, -14.9, 9.9, 10.0, torch.inf], requires_grad=True)
    scale = HardClamp(-15, 10)(raw)
    assert torch.equal(scale.log_sigma, raw.detach().clamp(-15, 10))
    assert torch.autograd.grad(scale.log_sigma.sum(), raw)[0].tolist() == [0, 0, 1, 1, 0, 0]


def test_hard_clamp_bounds_may_have_one_sign():
    assert HardClamp(-3, -1)(torch.tensor([-9.0, 0.0])).log_sigma.tolist() == [-3, -1]


@pytest.mark.parametrize(
    "build, named",
    [
        (lambda: SoftClamp(0, 0.01), "limit must be finite and above 0, got 0"),
        (lambda: SoftClamp(-5, 0.01), "limit must be finite and above 0, got -5"),
        (lambda: SoftClamp(math.inf, 0.01), "limit must be finite and above 0, got inf"),
        (lambda: SoftClamp(5, -0.01), "floor must not be negative, got -0.01"),
        (lambda: SoftClamp(5, math.nan), "floor must be finite, got nan"),
        (lambda: HardClamp(-math.inf, 10), "low must be finite, got -inf"),
        (lambda: HardClamp(-15, math.nan), "high must be finite, got nan"),
        (lambda: HardClamp(10, -15), "low must be below high, got low 10 and high -15"),
        (lambda: HardClamp(1, 1), "low must be below high, got low 1 and high 1"),
    ],
)
def test_impossible_constants_are_refused_by_name(build, named):
    with pytest.raises(ValueError, match=named):
        build()


def test_a_bound_that_is_not_a_number_is_refused():
    with pytest.raises(TypeError, match="low must be a number, got '-15'"):
        HardClamp("-15", 10)
