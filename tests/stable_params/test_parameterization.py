"""What every parameterization of the table must do: be accurate, have the right slopes and stay free of NaN."""

from dataclasses import astuple, dataclass
from typing import Callable

import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params import (
    PARAMETERIZATIONS,
    Bounded,
    DownBounded,
    HardClamp,
    Normal,
    Scale,
    SoftClamp,
    Softplus,
    UpBounded,
    parse_parameterization,
)

GREY_LEVEL = 1 / (256 * 12**0.5)
CASES = [*PARAMETERIZATIONS.values(), UpBounded(2), UpBounded(256), UpBounded(1e-3)]
CASES += [DownBounded(1), DownBounded(GREY_LEVEL)]
CASES += [Bounded(0.1, 1), Bounded(1, 2), Bounded(GREY_LEVEL, 1), Bounded(1e-6, 256)]
CASES += [Softplus(1), Softplus(4), Softplus(1e-3), SoftClamp(5, 0), SoftClamp(3, 2), HardClamp(0.5, 60)]
every_case = pytest.mark.parametrize("parameterization", CASES, ids=lambda case: case.flag)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@dataclass(frozen=True)
class Reference:
    """sigma(p, *constants), its slope in p, and what limits the accuracy that can be asked for.

    log sigma need not be more accurate than numbers of size `log_unit`, its largest constant term, nor the slope of
    sigma than numbers of size `slope_unit`; 0 asks for relative accuracy. The slope of log sigma may exponentiate a
    rounded sum of `exponent` and logs of constants; `exponent_weight` is what that error is multiplied by, and
    `log_slope_unit` is for that slope what `slope_unit` is for sigma's. `exponent_error` is what rounding the argument
    of the exponential adds to sigma's error, in ULP. `normal_only` limits log sigma to where sigma is a normal number:
    a form that takes the log of sigma promises no more.
    """

    sigma: Callable
    slope: Callable
    log_unit: Callable = lambda *constants: 0
    slope_unit: Callable = lambda *constants: 0
    log_slope_unit: Callable = lambda *constants: 0
    exponent: Callable = lambda p, *constants: abs(p)
    exponent_weight: Callable = lambda *constants: 0
    exponent_error: Callable = lambda p, *constants: 0
    normal_only: bool = False


def sigmoid(p):
    return 1 / (1 + mpmath.exp(-p))


def largest_log(*constants):
    return max(abs(mpmath.log(constant)) for constant in constants) + mpmath.log(2)


def plain_exp(**limits):
    return Reference(lambda p: mpmath.exp(p), lambda p: mpmath.exp(p), **limits)


REFERENCES = {
    "vanilla": plain_exp(),
    "naive_exp": plain_exp(log_unit=lambda: 1, normal_only=True),
    "exp": plain_exp(),
    "explin": Reference(lambda p: mpmath.exp(p) if p <= 0 else 1 + p, lambda p: mpmath.exp(min(p, mpf(0)))),
    "upbounded": Reference(
        lambda p, w: w / 2 * (mpmath.exp(p) if p <= 0 else 2 - mpmath.exp(-p)),
        lambda p, w: w / 2 * mpmath.exp(-abs(p)),
        log_unit=largest_log,
    ),
    "downbounded": Reference(
        lambda p, a: a + mpmath.exp(p), lambda p, a: mpmath.exp(p), log_unit=largest_log, exponent_weight=lambda a: 1
    ),
    "bounded": Reference(
        lambda p, a, w: a + (w - a) * sigmoid(p),
        lambda p, a, w: (w - a) * sigmoid(p) * sigmoid(-p),
        log_unit=largest_log,
        slope_unit=lambda a, w: w - a,  # sigmoid's slope is y (1 - y), as accurate as y is beside 1
        exponent_weight=lambda a, w: (w + a) / (w - a),  # the slope is a difference of w exp(p) and a exp(p)
    ),
    "softplus": Reference(
        lambda p, b: mpmath.log1p(mpmath.exp(b * p)) / b,
        lambda p, b: sigmoid(b * p),
        log_unit=lambda b: max(abs(mpmath.log(b)), 1),  # the log of a sigma near 1
        exponent_error=lambda p, b: 2 * b * max(-p, 0),  # b and b p each rounded by half an ULP, at most eps/2 relative
    ),
    "softclamp": Reference(
        lambda p, c, f: mpmath.exp(c * mpmath.tanh(p / c)) + f,
        lambda p, c, f: mpmath.exp(c * mpmath.tanh(p / c)) * mpmath.sech(p / c) ** 2,
        log_unit=lambda c, f: max(abs(mpmath.log(f)), 1) if f else 0,
        slope_unit=lambda c, f: mpmath.exp(c),  # tanh's slope is 1 - y^2, as accurate as y is beside 1
        log_slope_unit=lambda c, f: 1,
        exponent=lambda p, c, f: abs(c * mpmath.tanh(p / c)),
        exponent_weight=lambda c, f: 1 if f else 0,
        exponent_error=lambda p, c, f: 4 * abs(c * mpmath.tanh(p / c)),  # a quotient, tanh within an ULP, a product
    ),
    "hardclamp": Reference(
        lambda p, low, high: mpmath.exp(min(max(p, low), high)),
        lambda p, low, high: mpmath.exp(p) if low < p < high else mpf(0),
    ),
}


def magnitudes(dtype):
    """0 and both signs of every magnitude from 1e-30 to 1e4, densest around 1, as exact numbers of the dtype."""
    positive = torch.cat([torch.logspace(-30, -3, 28), torch.logspace(-2.9, 2.5, 70), torch.logspace(2.6, 4, 8)])
    return torch.cat([-positive.flip(0), torch.zeros(1), positive]).to(dtype)


def evaluate(parameterization, raw):
    """sigma, log sigma and their slopes at raw, detached."""
    raw = raw.clone().requires_grad_()
    scale = parameterization(raw)
    slopes = [torch.autograd.grad(field.sum(), raw, retain_graph=True)[0] for field in scale]
    return scale.sigma.detach(), scale.log_sigma.detach(), *slopes


def reference_of(parameterization):
    assert parameterization.name in REFERENCES, f"add a 50-digit reference of {parameterization.name} to this file"
    return REFERENCES[parameterization.name], [mpf(constant) for constant in astuple(parameterization)]


def points_of(reference, constants, dtype):
    """The raw values at which log sigma is to be accurate, and the same as 50-digit numbers."""
    raw = magnitudes(dtype)
    if reference.normal_only:
        info = torch.finfo(dtype)
        raw = raw[torch.tensor([info.tiny <= reference.sigma(mpf(p), *constants) <= info.max for p in raw.tolist()])]
    return raw, [mpf(p) for p in raw.tolist()]


def subnormal_error(dtype, constants):
    """What rounding exp p among the subnormal numbers amounts to after the multiplication with a constant."""
    info = torch.finfo(dtype)
    return info.tiny * info.eps * max([mpf(1), *constants])


@every_case
@both_dtypes
def test_sigma_is_within_three_and_a_half_ulp(parameterization, dtype, assert_within, ulp):
    # At most a sigmoid (an exponential within an ULP, a sum, a quotient: 2 ULP), then three roundings of half an ULP (a
    # constant, a product, a sum), and the rounding of the exponent. Measured: 2.1 ULP.
    reference, constants = reference_of(parameterization)
    raw = magnitudes(dtype)
    expected = [reference.sigma(mpf(p), *constants) for p in raw.tolist()]
    units = [3.5 + reference.exponent_error(mpf(p), *constants) for p in raw.tolist()]
    floor = subnormal_error(dtype, constants)
    allowed = [count * ulp(sigma, dtype) + floor for count, sigma in zip(units, expected)]
    assert_within(raw.tolist(), parameterization(raw).sigma, expected, allowed)


@every_case
@both_dtypes
def test_log_sigma_is_within_three_ulp(parameterization, dtype, assert_within, ulp):
    # At most two logarithms within an ULP each, and a rounded constant and sum at half an ULP each; the ULP is that of
    # the largest term. Measured: 1.2 ULP.
    reference, constants = reference_of(parameterization)
    raw, exact = points_of(reference, constants, dtype)
    expected = [mpmath.log(reference.sigma(p, *constants)) for p in exact]
    unit = reference.log_unit(*constants)
    allowed = [3 * ulp(max(abs(log_sigma), unit), dtype) for log_sigma in expected]
    assert_within(raw.tolist(), parameterization(raw).log_sigma, expected, allowed)


@every_case
@both_dtypes
def test_slope_of_sigma_is_within_three_ulp(parameterization, dtype, assert_within, ulp):
    # As sigma, with one more product from the chain rule. Measured: 1.7 ULP.
    reference, constants = reference_of(parameterization)
    raw = magnitudes(dtype)
    expected = [reference.slope(mpf(p), *constants) for p in raw.tolist()]
    unit, floor = reference.slope_unit(*constants), subnormal_error(dtype, constants)
    units = [3 + reference.exponent_error(mpf(p), *constants) for p in raw.tolist()]
    allowed = [count * ulp(max(abs(slope), unit), dtype) + floor for count, slope in zip(units, expected)]
    assert_within(raw.tolist(), evaluate(parameterization, raw)[2], expected, allowed)


@every_case
@both_dtypes
def test_slope_of_log_sigma_is_right(parameterization, dtype, assert_within, ulp):
    # The exponential of a sum rounded by half an ULP is off by as many ULP as the size of its exponent (at most).
    # Where exp(-|p|) is below the normal numbers accuracy ends at that size.
    reference, constants = reference_of(parameterization)
    raw, exact = points_of(reference, constants, dtype)
    expected = [reference.slope(p, *constants) / reference.sigma(p, *constants) for p in exact]
    weight = reference.exponent_weight(*constants)
    exponents = [reference.exponent(p, *constants) + reference.log_unit(*constants) for p in exact]
    unit = reference.log_slope_unit(*constants)
    smallest = torch.finfo(dtype).tiny * (1 + max(constants) / min(constants)) if weight else 0
    allowed = [(4 + weight * x) * ulp(max(slope, unit), dtype) + smallest for slope, x in zip(expected, exponents)]
    assert_within(raw.tolist(), evaluate(parameterization, raw)[3], expected, allowed)


@every_case
def test_sigma_and_log_sigma_never_decrease(parameterization, ulp):
    reference, constants = reference_of(parameterization)
    sigma, log_sigma = parameterization(magnitudes(torch.float64))
    assert (sigma[1:] >= sigma[:-1]).all()
    # Where the exact one hardly grows, the rounding of its terms may lower it by an ULP of the largest.
    unit = reference.log_unit(*constants)
    assert (log_sigma[1:] >= log_sigma[:-1] - (float(ulp(unit, torch.float64)) if unit else 0)).all()


@every_case
def test_slopes_agree_on_both_sides_of_zero(parameterization):
    _, _, sigma_slope, log_slope = evaluate(parameterization, torch.tensor([-1e-12, 0, 1e-12], dtype=torch.float64))
    for slope in (sigma_slope, log_slope):
        # The slope changes by at most four times its own size per unit of p, so by 4e-12 of it; the rest is rounding.
        torch.testing.assert_close(slope, slope[1].expand(3), rtol=1e-11, atol=0)


@pytest.mark.parametrize("parameterization", [c for c in CASES if c.name != "naive_exp"], ids=lambda case: case.flag)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_far_raw_gives_no_nan_in_value_or_slope(parameterization, dtype):
    raw = torch.tensor([-torch.inf, -1e4, -200.0, 200.0, 1e4, torch.inf], dtype=dtype)
    fields = evaluate(parameterization, raw)
    assert not any(field.isnan().any() for field in fields)
    assert fields[1][1:-1].isfinite().all() and fields[3].isfinite().all()


@every_case
def test_nan_stays_nan(parameterization):
    for raw in (torch.tensor([torch.nan]), torch.full((37,), torch.nan)):
        scale = parameterization(raw)
        assert scale.sigma.isnan().all() and scale.log_sigma.isnan().all()


@every_case
def test_nan_reaches_the_gradient_through_the_kl(parameterization):
    raw = torch.tensor([0.3, torch.nan], requires_grad=True)
    prior = Normal(torch.zeros(2), Scale(torch.ones(2), torch.zeros(2)))
    parameterization.normal(torch.zeros(2), raw).kl(prior).sum().backward()
    assert raw.grad.isnan().tolist() == [False, True]


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_shape_and_dtype_are_those_of_raw(parameterization, dtype):
    raw = torch.linspace(-3, 3, 24, dtype=dtype).reshape(2, 3, 4)
    before = raw.clone()
    scale = parameterization(raw)
    wide = parameterization(raw.double())
    for field, exact in zip(scale, wide):
        assert field.shape == raw.shape and field.dtype == dtype
        # The largest log constant is 14, so sums of logs are off by half an ULP of 16 at each of up to four roundings.
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(field.double(), exact, rtol=4 * eps, atol=16 * eps)
    assert torch.equal(raw, before)


@every_case
def test_raw_that_is_not_floating_point_is_refused(parameterization):
    with pytest.raises(TypeError, match="raw must be a floating-point tensor, got a tensor of torch.int64"):
        parameterization(torch.arange(3))
    with pytest.raises(TypeError, match="raw must be a floating-point tensor, got list"):
        parameterization([0.0])


@every_case
def test_normal_joins_loc_and_scale(parameterization):
    loc, raw = torch.randn(2, 3), torch.randn(2, 3)
    normal = parameterization.normal(loc, raw)
    assert isinstance(normal, Normal) and normal.loc is loc
    assert torch.equal(normal.scale.sigma, parameterization(raw).sigma)
    assert torch.equal(normal.scale.log_sigma, parameterization(raw).log_sigma)


@every_case
def test_flag_parses_back_to_an_equal_object(parameterization):
    parsed = parse_parameterization(parameterization.flag)
    assert parsed == parameterization and type(parsed) is type(parameterization)
