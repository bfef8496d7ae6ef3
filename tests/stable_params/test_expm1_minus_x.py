import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params.expm1_minus_x import _TERMS, _TERMS_OF_FLOAT64, expm1_minus_x

EXPONENTS = torch.linspace(-12, 1.9, 400, dtype=torch.float64)


def arguments(dtype):
    """Every magnitude from 1e-12 to 79, both signs, and both ends of the series' interval with their neighbours."""
    ends = torch.tensor([-1, 1], dtype=dtype)
    near = [torch.nextafter(ends, torch.full_like(ends, side)) for side in (-2, 0, 2)]
    return torch.cat([sign * (10**EXPONENTS).to(dtype) for sign in (-1, 1)] + near + [ends])


def true(x):
    """expm1(x) - x in 50 digits; at 1e-12 the difference loses 12 of them."""
    return mpmath.expm1(mpf(x)) - mpf(x)


@pytest.mark.parametrize("terms, digits", [(_TERMS, 24), (_TERMS_OF_FLOAT64, 53)])
def test_series_and_its_derivative_leave_out_less_than_half_an_ulp(terms, digits):
    # x^2/2! + ... + x^(terms + 1)/(terms + 1)! at x = -1, where the value is smallest beside the term left out.
    left_out, of_derivative = 1 / mpmath.factorial(terms + 2), 1 / mpmath.factorial(terms + 1)
    assert left_out < mpf(2) ** -digits * true(-1)
    assert of_derivative < mpf(2) ** -digits * -mpmath.expm1(-1)


@pytest.mark.parametrize("function", [expm1_minus_x, torch.compile(expm1_minus_x, fullgraph=True)], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_value_is_accurate_relative_to_itself(function, dtype, assert_within, ulp):
    # At |x| = 1 half an ULP of exp(x) is 2 ULP of the value; the two subtractions add half an ULP each.
    x = arguments(dtype)
    expected = [true(value) for value in x.tolist()]
    assert_within(x.tolist(), function(x), expected, [3 * ulp(want, dtype) for want in expected])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_derivatives_are_expm1_and_exp_over_every_magnitude(dtype, order, assert_within, ulp):
    x = arguments(dtype).requires_grad_()
    result = expm1_minus_x(x)
    for _ in range(order):
        (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    expected = [(mpmath.expm1 if order == 1 else mpmath.exp)(mpf(value)) for value in x.tolist()]
    allowed = [4 * ulp(want if order == 1 else max(want, 1), dtype) for want in expected]
    assert_within(x.tolist(), result.detach(), expected, allowed)


def test_forward_mode_agrees_with_reverse_mode():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expm1_minus_x, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(expm1_minus_x, (x,), check_fwd_over_rev=True)


def test_zero_infinities_and_nan():
    x = torch.tensor([0.0, -torch.inf, torch.inf, 200.0, torch.nan])
    assert torch.equal(expm1_minus_x(x)[:4], torch.tensor([0, torch.inf, torch.inf, torch.inf]))
    assert expm1_minus_x(x)[4].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_keeps_a_digit_for_small_arguments(dtype, assert_within):
    x = (torch.logspace(-1.8, 0.9, 60).to(dtype)[None] * torch.tensor([[-1], [1]])).to(dtype).flatten()
    expected = [true(value) for value in x.tolist()]
    eps = torch.finfo(dtype).eps
    assert_within(x.tolist(), expm1_minus_x(x), expected, [6 * eps * want for want in expected])
