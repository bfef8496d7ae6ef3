import math

import pytest
import torch

from stable_params import Constant, parse_parameterization


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_constant_ignores_what_raw_holds_and_keeps_its_shape_and_dtype(dtype):
    raw = torch.tensor([[0.0, 3.0], [torch.nan, -torch.inf]], dtype=dtype)
    scale = Constant(2.5)(raw)
    assert scale.sigma.dtype == scale.log_sigma.dtype == dtype
    assert torch.equal(scale.sigma, torch.full((2, 2), 2.5, dtype=dtype))
    assert torch.equal(scale.log_sigma, torch.full((2, 2), math.log(2.5), dtype=dtype))


def test_default_is_the_standard_scale_with_log_exactly_zero():
    scale = Constant()(torch.randn(3))
    assert scale.sigma.tolist() == [1, 1, 1] and scale.log_sigma.tolist() == [0, 0, 0]


def test_no_gradient_reaches_raw():
    scale = Constant()(torch.randn(3, requires_grad=True))
    assert not scale.sigma.requires_grad and not scale.log_sigma.requires_grad


def test_integer_raw_is_refused():
    with pytest.raises(TypeError, match="torch.int64"):
        Constant()(torch.arange(3))


@pytest.mark.parametrize("sigma", [0, -1, math.inf, math.nan])
def test_impossible_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma must be finite and above 0, got {sigma!r}"):
        Constant(sigma)


def test_its_flag_is_a_label_that_does_not_parse():
    assert Constant().flag == "constant1"
    with pytest.raises(ValueError, match="constant1"):
        parse_parameterization(Constant().flag)
