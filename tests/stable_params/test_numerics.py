import math

import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params.numerics import HIGHEST, LOWER, LOWEST, UPPER, expm1_minus_x, series_terms, standardized

EXPONENTS = torch.linspace(-12, 1.9, 400, dtype=torch.float64)


def arguments(dtype):
    """Every magnitude from 1e-12 to 79, both signs, and the neighbours of both ends of the series' interval."""
    ends = torch.tensor([LOWER, UPPER], dtype=dtype)
    near = [torch.nextafter(ends, torch.full_like(ends, side)) for side in (-1, 0, 1)]
    return torch.cat([sign * (10**EXPONENTS).to(dtype) for sign in (-1, 1)] + near + [ends])


def true(x):
    """expm1(x) - x in 50 digits; at 1e-12 the difference loses 12 of them."""
    return mpmath.expm1(mpf(x)) - mpf(x)


def test_ends_are_logarithms_of_short_numbers_and_nearly_float32():
    for end, value in ((LOWER, LOWEST), (UPPER, HIGHEST)):
        assert torch.tensor(value, dtype=torch.float16).item() == value
        rounded = torch.tensor(end)
        gap = (torch.nextafter(rounded, rounded * 2) - rounded).abs()
        assert abs(mpf(rounded.item()) - mpmath.log(value)) < 0.02 * gap.item()
    # The KL of the direct form's first point: half an ULP of exp(x) is at most an ULP of it.
    assert true(2 * UPPER) / 2 > 0.5 and true(2 * LOWER) / 2 > 0.25 and LOWEST < 0.5


@pytest.mark.parametrize("dtype, kept", [(torch.float32, 24), (torch.float64, 53)], ids=str)
def test_series_leaves_out_less_than_an_ulp_on_its_interval(dtype, kept):
    first_left_out = 2 * mpf(LOWER) ** (series_terms(dtype) + 1) / mpmath.factorial(series_terms(dtype) + 3)
    assert abs(first_left_out) * mpf(LOWER) ** 2 / 2 < mpf(2) ** -kept * true(LOWER)


@pytest.mark.parametrize("dtype, units", [(torch.float32, 6), (torch.float64, 6)], ids=str)
def test_value_is_accurate_relative_to_itself(dtype, units, assert_within, ulp):
    # Half an ULP of exp(x) at UPPER, 2^-24, is 4 ULP of 0.206; measured 4.4.
    x = arguments(dtype)
    expected = [true(value) for value in x.tolist()]
    assert_within(x.tolist(), expm1_minus_x(x), expected, [units * ulp(want, dtype) for want in expected])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_derivatives_are_expm1_and_exp_over_every_magnitude(dtype, order, assert_within, ulp):
    x = arguments(dtype).requires_grad_()
    result = expm1_minus_x(x)
    for _ in range(order):
        (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    expected = [(mpmath.expm1 if order == 1 else mpmath.exp)(mpf(value)) for value in x.tolist()]
    assert_within(x.tolist(), result.detach(), expected, [2 * ulp(want, dtype) for want in expected])


def test_forward_mode_agrees_with_reverse_mode():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expm1_minus_x, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(expm1_minus_x, (x,), check_fwd_over_rev=True)


def test_zero_infinities_and_nan():
    x = torch.tensor([0.0, -torch.inf, torch.nan, 200.0])
    assert torch.equal(expm1_minus_x(x)[[0, 1, 3]], torch.tensor([0, torch.inf, torch.inf]))
    assert expm1_minus_x(x)[2].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_keeps_a_digit_for_small_arguments(dtype, assert_within):
    x = (torch.logspace(-1.8, 0.9, 60).to(dtype)[None] * torch.tensor([[-1], [1]])).to(dtype).flatten()
    expected = [true(value) for value in x.tolist()]
    eps = torch.finfo(dtype).eps
    assert_within(x.tolist(), expm1_minus_x(x), expected, [6 * eps * want for want in expected])


@pytest.mark.parametrize(
    "dtype, delta, log_sigma",
    [(torch.float32, 1e-30, -120.0), (torch.float32, 1e30, 120.0), (torch.float32, 3.0, -0.1),
     (torch.float16, 6e-5, -18.0), (torch.float16, 6e4, 18.0), (torch.float64, 1e-300, -760.0)], ids=str)  # fmt: skip
def test_quotient_is_right_where_sigma_or_its_inverse_is_out_of_range(dtype, delta, log_sigma):
    delta, log_sigma = torch.tensor([delta], dtype=dtype), torch.tensor([log_sigma], dtype=dtype)
    want = mpf(delta.item()) * mpmath.exp(-mpf(log_sigma.item()))
    assert abs(standardized(delta, log_sigma).item() - want) <= 3 * torch.finfo(dtype).eps * want
