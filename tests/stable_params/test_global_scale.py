import math

import pytest
import torch

from stable_params import DownBounded, Exp, Normal, Scale, closed_form_scale, lower_bounded


def test_it_is_the_root_of_the_mean_squared_error():
    scale = closed_form_scale(torch.tensor([[1.0, 5.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
    # Squared errors 0, 16, 4, 0.
    torch.testing.assert_close(scale.sigma, torch.tensor(math.sqrt(5)))
    torch.testing.assert_close(scale.log_sigma, torch.tensor(math.log(5) / 2))


def test_no_other_global_scale_has_a_higher_likelihood():
    torch.manual_seed(0)
    reconstruction, target = torch.rand(2, 8, 3, 16, 16, dtype=torch.float64)
    best = closed_form_scale(reconstruction, target).log_sigma

    def likelihood(log_sigma):
        return Normal(reconstruction, Scale(log_sigma.exp(), log_sigma)).log_prob(target).sum()

    slope = torch.func.grad(likelihood)(best)
    # At the optimum the sum of x^2 - 1 cancels: 6144 terms, each rounded by some eps.
    assert abs(slope) < 6144 * 8 * torch.finfo(torch.float64).eps
    assert likelihood(best) > max(likelihood(best - 0.01), likelihood(best + 0.01))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_many_elements_are_added_up_in_float32(dtype):
    # In half precision a running sum would stop growing at a small fraction of two million terms.
    reconstruction = torch.full((2**21,), 0.125, dtype=dtype)
    scale = closed_form_scale(reconstruction, torch.zeros_like(reconstruction))
    assert scale.sigma.dtype == scale.log_sigma.dtype == torch.float32
    torch.testing.assert_close(scale.sigma, torch.tensor(0.125), rtol=1e-6, atol=0)


def test_many_different_errors_in_float32():
    torch.manual_seed(0)
    reconstruction, target = torch.randn(2**22), torch.randn(2**22)
    scale = closed_form_scale(reconstruction, target)
    exact = closed_form_scale(reconstruction.double(), target.double())
    # Four million terms summed in pairs: about log2(n) = 22 roundings, halved by the root.
    for field, want in zip(scale, exact):
        torch.testing.assert_close(field.double(), want, rtol=22 * 2**-24, atol=0)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_errors_whose_squares_leave_the_range(size):
    scale = closed_form_scale(torch.tensor([3 * size, 0.0]), torch.tensor([0.0, 4 * size]))
    torch.testing.assert_close(scale.sigma, torch.tensor(size * math.sqrt(12.5)), rtol=1e-6, atol=0)
    torch.testing.assert_close(scale.log_sigma, torch.tensor(math.log(size * math.sqrt(12.5))), rtol=1e-6, atol=0)


def test_perfect_reconstruction_has_no_scale():
    scale = closed_form_scale(torch.ones(3), torch.ones(3))
    assert scale.sigma == 0 and scale.log_sigma == -torch.inf


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(bad):
    scale = closed_form_scale(torch.tensor([1.0, bad]), torch.zeros(2))
    assert all(str(field.item()) == str(bad) for field in scale)


def test_gradient_is_that_of_the_mean_square():
    reconstruction = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    closed_form_scale(reconstruction, torch.zeros(3)).log_sigma.backward()
    # d/dx of log(sum x^2)/2 is x / sum x^2, and the sum is 5.25.
    torch.testing.assert_close(reconstruction.grad, reconstruction.detach() / 5.25)


def test_shapes_must_be_equal_and_tensors_floating_point():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        closed_form_scale(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"not empty, got \(0,\) and \(0,\)"):
        closed_form_scale(torch.zeros(0), torch.zeros(0))
    with pytest.raises(TypeError, match="torch.float32 and torch.uint8"):
        closed_form_scale(torch.zeros(3), torch.zeros(3, dtype=torch.uint8))


def test_lower_bound_is_kept_by_every_raw_and_still_has_a_slope():
    bounded = lower_bounded(0.3, 2)
    raw = torch.tensor([-1e4, -20.0, 0.0, 3.0], requires_grad=True)
    scale = bounded(raw)
    assert bounded == DownBounded(0.15)
    assert (scale.sigma >= torch.tensor(0.15)).all() and scale.sigma[0] == torch.tensor(0.15)
    assert (torch.autograd.grad(scale.sigma.sum(), raw)[0][1:] > 0).all()


@pytest.mark.parametrize(
    "arguments, named",
    [
        ((0, 2), "global_sigma must be finite and above 0, got 0"),
        ((math.nan, 2), "global_sigma must be finite and above 0, got nan"),
        ((0.3, -1), "alpha must be finite and above 0, got -1"),
    ],
)
def test_impossible_bounds_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        lower_bounded(*arguments)


def test_a_scale_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="global_sigma must be a number"):
        lower_bounded(Exp()(torch.zeros(1)), 2)
