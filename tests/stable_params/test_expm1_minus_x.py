import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params.normal import expm1_minus_x

# Magnitudes from 2^-28 (4e-9), down to which the result keeps float32's digits, to 79.
EXPONENTS = torch.linspace(-8.42, 1.9, 400, dtype=torch.float64)


def arguments(dtype, exponents=EXPONENTS):
    return torch.cat([sign * (10**exponents).to(dtype) for sign in (-1, 1)])


def true(x):
    """expm1(x) - x in 50 digits; at 1e-12 the difference loses 12 of them."""
    return mpmath.expm1(mpf(x)) - mpf(x)


def test_float32_is_accurate_relative_to_its_value(assert_within, ulp):
    # Half an ULP from rounding to float32, and in float64 half an ULP of expm1(x), at most a float32 ULP of x^2/2.
    x = arguments(torch.float32)
    expected = [true(value) for value in x.tolist()]
    assert_within(x.tolist(), expm1_minus_x(x), expected, [2 * ulp(want, torch.float32) for want in expected])


def test_nearer_to_zero_and_in_float64_digits_go_as_promised(assert_within):
    x = arguments(torch.float64, torch.linspace(-14, 1.9, 300, dtype=torch.float64))
    expected = [true(value) for value in x.tolist()]
    allowed = [want * mpf(2) ** -52 * (4 + 4 / abs(mpf(value))) for want, value in zip(expected, x.tolist())]
    assert_within(x.tolist(), expm1_minus_x(x), expected, allowed)


def test_compiled_the_error_is_float64_s_of_the_exponential(assert_within, ulp):
    # Compiled for a CPU, expm1(x) is exp(x) - 1: off by 2^-53, of which a float32 x^2/2 above 2^-28 knows nothing.
    x = arguments(torch.float32)
    expected = [true(value) for value in x.tolist()]
    allowed = [2 * ulp(want, torch.float32) + mpf(2) ** -52 for want in expected]
    assert_within(x.tolist(), torch.compile(expm1_minus_x, fullgraph=True)(x), expected, allowed)


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_expm1_and_exp(order, assert_within, ulp):
    x = arguments(torch.float32).requires_grad_()
    result = expm1_minus_x(x)
    for _ in range(order):
        (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    expected = [(mpmath.expm1 if order == 1 else mpmath.exp)(mpf(value)) for value in x.tolist()]
    allowed = [2 * ulp(want, torch.float32) + mpf(2) ** -51 for want in expected]
    assert_within(x.tolist(), result.detach(), expected, allowed)


def test_forward_mode_agrees_with_reverse_mode():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expm1_minus_x, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(expm1_minus_x, (x,), check_fwd_over_rev=True)


def test_zero_infinities_and_nan():
    x = torch.tensor([0.0, -torch.inf, 200.0, 3e38, torch.nan])
    assert torch.equal(expm1_minus_x(x)[:4], torch.tensor([0, torch.inf, torch.inf, torch.inf]))
    assert expm1_minus_x(x)[4].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_rounds_once(dtype, assert_within, ulp):
    x = (torch.logspace(-1.8, 0.9, 60).to(dtype)[None] * torch.tensor([[-1], [1]])).to(dtype).flatten()
    expected = [true(value) for value in x.tolist()]
    assert_within(x.tolist(), expm1_minus_x(x), expected, [0.51 * ulp(want, dtype) for want in expected])
