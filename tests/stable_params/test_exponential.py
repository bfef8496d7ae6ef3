import math

import torch

from stable_params import Exp, ExpLin, NaiveExp


def smallest_finite_log(parameterization, dtype):
    """The last integer log sigma1, stepping down from 0, for which log(sigma2/sigma1) with sigma2 = 1 is finite."""
    raw = -torch.arange(200, dtype=dtype)
    return raw[parameterization(raw).log_sigma.isfinite()].min().item()


def test_naive_exp_loses_log_sigma_where_table_1_of_the_paper_says():
    assert smallest_finite_log(NaiveExp(), torch.float32) == -103
    assert smallest_finite_log(NaiveExp(), torch.float16) == -17


def test_naive_exp_has_nan_slopes_where_exp_leaves_the_range():
    raw = torch.tensor([-104.0, -60.0, 60.0, 89.0], requires_grad=True)
    scale = NaiveExp()(raw)
    scale.log_sigma.sum().backward()
    assert scale.log_sigma[0] == -torch.inf and scale.log_sigma[3] == torch.inf
    assert raw.grad.isnan().tolist() == [True, False, False, True]


def test_exp_returns_raw_itself_as_log_sigma():
    raw = torch.tensor([-1e4, -103.5, 0.1, 1e4])
    scale = Exp()(raw)
    assert torch.equal(scale.log_sigma, raw)
    assert scale.sigma[3] == torch.inf and scale.sigma[0] == 0


def test_limits_at_infinity():
    raw = torch.tensor([-torch.inf, torch.inf])
    for parameterization in (NaiveExp(), Exp(), ExpLin()):
        scale = parameterization(raw)
        assert scale.sigma.tolist() == [0, torch.inf] and scale.log_sigma.tolist() == [-torch.inf, torch.inf]


def test_explin_is_exp_below_zero_and_linear_above():
    raw = torch.tensor([-3.0, -1e-3, 0.0, 1e-3, 1e4])
    scale = ExpLin()(raw)
    assert torch.equal(scale.sigma, torch.where(raw > 0, raw + 1, raw.exp()))
    assert torch.equal(scale.log_sigma[:3], raw[:3])
    assert torch.equal(scale.log_sigma[3:], raw[3:].log1p())


def test_explin_slope_at_zero_is_one_not_two_nor_none():
    for field in range(2):
        raw = torch.zeros(3, requires_grad=True)
        ExpLin()(raw)[field].sum().backward()
        assert raw.grad.tolist() == [1, 1, 1]


def test_the_slope_of_explin_s_draw_is_at_most_the_noise_even_where_the_draw_overflows():
    raw = torch.tensor([-3.0, 2.0, 3e38, math.inf], requires_grad=True)
    z = ExpLin().normal(torch.zeros(4), raw).rsample(torch.full((4,), 2.0))
    (slope,) = torch.autograd.grad(z.sum(), raw)
    assert slope.tolist()[1:] == [2.0, 2.0, 2.0] and z[2] == math.inf
    torch.testing.assert_close(slope[0], 2 * raw[0].detach().exp())
