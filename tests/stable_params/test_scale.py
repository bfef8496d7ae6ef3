import math

import pytest
import torch

from stable_params import Scale


def test_temperature_multiplies_sigma_and_shifts_log_sigma():
    scale = Scale(torch.tensor([0.5, 2.0, 0.0]), torch.tensor([math.log(0.5), math.log(2.0), -120.0]))
    tempered = scale.tempered(0.5)
    assert tempered.sigma.tolist() == [0.25, 1.0, 0.0]
    assert torch.equal(tempered.log_sigma, scale.log_sigma + math.log(0.5))
    assert scale.sigma.tolist() == [0.5, 2.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_temperature_keeps_the_dtype(dtype):
    tempered = Scale(torch.ones(2, dtype=dtype), torch.zeros(2, dtype=dtype)).tempered(0.7)
    assert tempered.sigma.dtype == tempered.log_sigma.dtype == dtype


@pytest.mark.parametrize("temperature", [0, -0.5, math.inf, math.nan])
def test_impossible_temperature_is_refused_by_name(temperature):
    with pytest.raises(ValueError, match=f"temperature must be finite and above 0, got {temperature!r}"):
        Scale(torch.ones(1), torch.zeros(1)).tempered(temperature)
