import math

import mpmath
import pytest
import torch

from stable_params import Bounded, DownBounded, UpBounded

RAW = torch.cat([torch.linspace(-120, 120, 4001), torch.tensor([-1e4, 1e4, -torch.inf, torch.inf])])


@pytest.mark.parametrize("omega", [1, 0.5, 2, 256])
def test_upbounded_never_exceeds_omega_and_reaches_it(omega):
    scale = UpBounded(omega)(RAW)
    assert scale.sigma.max() == omega
    # log(omega/2) and log 2 are both rounded before they are added: at most one ULP, nothing for omega = 1.
    torch.testing.assert_close(scale.log_sigma.max(), torch.tensor(math.log(omega)), rtol=1.2e-7, atol=0)
    assert UpBounded(omega)(torch.tensor([-torch.inf])).sigma.item() == 0


def test_upbounded_slope_at_zero_is_half_of_omega():
    raw = torch.zeros(2, requires_grad=True)
    scale = UpBounded(6)(raw)
    assert torch.autograd.grad(scale.sigma.sum(), raw, retain_graph=True)[0].tolist() == [3, 3]
    assert torch.autograd.grad(scale.log_sigma.sum(), raw)[0].tolist() == [1, 1]


@pytest.mark.parametrize("omega", [1, 0.3, 2, 256])
def test_upbounded_log_sigma_is_that_of_equation_12_to_the_last_digits(omega, assert_within, ulp):
    # log sigma is the log of a number between omega/2 and omega: its digits are those of log omega/2 and log omega.
    raw = torch.cat([torch.logspace(-30, 2, 65), -torch.logspace(-30, 2, 65)])
    above = [mpmath.log(mpmath.mpf(omega) / 2 * (2 - mpmath.exp(-mpmath.mpf(p)))) for p in raw[:65].tolist()]
    expected = above + [mpmath.log(mpmath.mpf(omega) / 2) + mpmath.mpf(p) for p in raw[65:].tolist()]
    unit = ulp(max(abs(mpmath.log(mpmath.mpf(omega) / 2)), abs(mpmath.log(omega)), mpmath.log(2)), raw.dtype)
    allowed = [2.5 * max(unit, ulp(value, raw.dtype)) for value in expected]
    assert_within(raw.tolist(), UpBounded(omega)(raw).log_sigma, expected, allowed)


def test_upbounded_slope_of_log_sigma_does_not_die_early():
    raw = torch.full((9,), 60.0, requires_grad=True)
    UpBounded(1)(raw).log_sigma.sum().backward()
    torch.testing.assert_close(raw.grad, torch.full((9,), math.exp(-60) / 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [0.1, 1, 1 / 256])
def test_downbounded_never_falls_below_alpha_and_reaches_it(alpha):
    scale = DownBounded(alpha)(RAW)
    assert scale.sigma.min() == torch.tensor(alpha)
    assert scale.log_sigma.min() == torch.tensor(math.log(alpha))


def test_downbounded_log_sigma_is_finite_where_sigma_overflows():
    scale = DownBounded(0.1)(torch.tensor([100.0, 1e4]))
    assert scale.sigma.tolist() == [torch.inf, torch.inf] and scale.log_sigma.tolist() == [100, 1e4]


@pytest.mark.parametrize("alpha, omega", [(0.1, 1), (1 / 256, 1), (0.1, 256), (1e-6, 1e6)])
def test_bounded_stays_between_its_bounds_and_reaches_both(alpha, omega):
    scale = Bounded(alpha, omega)(RAW)
    # omega - alpha and the sum with alpha each round once.
    assert scale.sigma.min() == torch.tensor(alpha)
    torch.testing.assert_close(scale.sigma.max(), torch.tensor(float(omega)), rtol=1.2e-7, atol=0)
    assert scale.log_sigma.min() == torch.tensor(math.log(alpha))
    assert scale.log_sigma.max() == torch.tensor(math.log(omega))


def test_bounded_log_sigma_keeps_approaching_a_bound_of_one(assert_within, ulp):
    # Where the bound's log is 0 the distance to it is all of log sigma; sigma itself has rounded to 1 there.
    p = torch.linspace(3, 80, 78)
    top = [mpmath.log1p(-mpmath.mpf(0.5) / (1 + mpmath.exp(x))) for x in p.tolist()]
    bottom = [mpmath.log1p(mpmath.mpf(3) / (1 + mpmath.exp(x))) for x in p.tolist()]
    # logsigmoid and logaddexp exponentiate sums rounded by half an ULP of p; at worst two terms cancel to half of one.
    allowed = [(2 * x + 8) * ulp(1, p.dtype) for x in p.tolist()]
    assert_within(p.tolist(), Bounded(0.5, 1)(p).log_sigma, top, [a * abs(x) for a, x in zip(allowed, top)])
    assert_within(p.tolist(), Bounded(1, 4)(-p).log_sigma, bottom, [a * abs(x) for a, x in zip(allowed, bottom)])


@pytest.mark.parametrize(
    "build, named",
    [
        (lambda: UpBounded(0), "omega must be finite and above 0, got 0"),
        (lambda: UpBounded(-1.5), "omega must be finite and above 0, got -1.5"),
        (lambda: UpBounded(math.inf), "omega must be finite and above 0, got inf"),
        (lambda: DownBounded(math.nan), "alpha must be finite and above 0, got nan"),
        (lambda: DownBounded(-0.1), "alpha must be finite and above 0, got -0.1"),
        (lambda: Bounded(0, 1), "alpha must be finite and above 0, got 0"),
        (lambda: Bounded(0.1, math.inf), "omega must be finite and above 0, got inf"),
        (lambda: Bounded(2, 1), "alpha must be below omega, got alpha 2 and omega 1"),
        (lambda: Bounded(1, 1), "alpha must be below omega, got alpha 1 and omega 1"),
    ],
)
def test_impossible_constants_are_refused_by_name(build, named):
    with pytest.raises(ValueError, match=named):
        build()


@pytest.mark.parametrize("constant", ["1", None, True, torch.ones(1)])
def test_a_constant_that_is_not_a_number_is_refused(constant):
    with pytest.raises(TypeError, match="omega must be a number"):
        UpBounded(constant)
