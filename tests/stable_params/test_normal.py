"""Normal: draw, log density, moments, shapes, dtypes and errors."""

import itertools
import math

import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params import Exp, Normal, Scale, StableNormal, Vanilla, standard_normal_like
from tests.stable_params.test_kl import DISTANCES, LOG_SIGMAS, SMALLEST_NORMAL, UNIT, normal

# Log sigmas and distances up to the ends of each dtype's range, beside what is near 0.
EXTREMES = [0.0, 1e-8, 1e-3, 0.5, 3.0, 11.0, 21.0, 60.0, 100.0, 400.0, 1e3, 6e4, 1e30, 1e300]


@pytest.mark.parametrize("name", ["kl", "rsample", "log_prob"])
def test_nan_is_not_hidden(name):
    broken = normal(torch.tensor([torch.nan, 0.0]), torch.tensor([0.0, torch.nan]))
    arguments = {"kl": (normal(torch.zeros(2), torch.zeros(2)),), "rsample": (), "log_prob": (torch.zeros(2),)}
    assert getattr(broken, name)(*arguments[name]).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtype_and_broadcast_shape_are_kept(dtype):
    q = normal(torch.zeros(4, 1, dtype=dtype), torch.zeros(1, 3, dtype=dtype))
    p = normal(torch.zeros(1, dtype=dtype), torch.ones(1, dtype=dtype))
    for result in (q.kl(p), q.rsample(), q.log_prob(torch.ones(3, dtype=dtype))):
        assert result.shape == (4, 3) and result.dtype == dtype


def test_rsample_with_given_noise_is_sigma_eps_plus_loc():
    loc, log_sigma, eps = torch.randn(3, 2, 5)
    assert torch.equal(normal(loc, log_sigma).rsample(eps), log_sigma.exp() * eps + loc)


@pytest.mark.parametrize(
    "loc_shape, sigma_shape, drawn", [((2, 3), (2, 3), (2, 3)), ((3,), (4, 1), (4, 3)), ((), (5,), (5,))]
)
def test_rsample_takes_exactly_one_standard_normal_draw(loc_shape, sigma_shape, drawn):
    q = normal(torch.full(loc_shape, 2.0), torch.full(sigma_shape, 0.5))
    torch.manual_seed(11)
    expected, following = torch.tensor(0.5).exp() * torch.randn(drawn) + 2.0, torch.randn(4)
    torch.manual_seed(11)
    assert torch.equal(q.rsample(), expected)
    assert torch.equal(torch.randn(4), following)


def test_rsample_has_the_moments_of_the_distribution():
    count, loc, log_sigma = 200_000, -3.0, 0.7
    torch.manual_seed(0)
    draws = normal(torch.full((count,), loc), torch.full((count,), log_sigma)).rsample().double()
    sigma = math.exp(log_sigma)
    # Five standard errors: sigma/sqrt(n) of the mean, sigma^2 sqrt(2/n) of the variance.
    assert abs(draws.mean().item() - loc) < 5 * sigma / math.sqrt(count)
    assert abs(draws.var().item() - sigma**2) < 5 * sigma**2 * math.sqrt(2 / count)


def test_rsample_is_differentiable_in_loc_and_scale():
    loc, raw = torch.zeros(3, requires_grad=True), torch.full((3,), 0.4, requires_grad=True)
    eps = torch.tensor([-1.0, 0, 2])
    Exp().normal(loc, raw).rsample(eps).sum().backward()
    assert loc.grad.tolist() == [1, 1, 1]
    assert torch.equal(raw.grad, eps * raw.detach().exp())


def test_log_prob_is_accurate_over_the_whole_range_of_float32(assert_within):
    within = [log_sigma for log_sigma in LOG_SIGMAS if mpmath.exp(log_sigma) >= SMALLEST_NORMAL]
    points = torch.tensor(list(itertools.product(DISTANCES, within)))
    value, log_sigma = points.T
    result = normal(torch.zeros(len(points)), log_sigma).log_prob(value)
    rows = [((mpf(v) * mpmath.exp(-mpf(s))) ** 2 / 2, mpf(s)) for v, s in points.tolist()]
    half_log_2pi = mpmath.log(2 * mpmath.pi) / 2
    allowed = [UNIT * (12 * square + 3 * abs(s) + 2) for square, s in rows]
    assert_within(points.tolist(), result, [-square - s - half_log_2pi for square, s in rows], allowed)


def test_log_prob_is_a_density():
    value = torch.linspace(-60, 60, 200_001, dtype=torch.float64)
    density = normal(torch.tensor(1.5).double(), torch.tensor(0.9).double()).log_prob(value).exp()
    # The trapezoid rule is exact to rounding for a normal whose sigma is thousands of steps wide.
    assert torch.trapezoid(density, value).item() == pytest.approx(1, rel=1e-12)


def test_tempered_scales_sigma_and_keeps_loc():
    loc, log_sigma = torch.randn(2, 6)
    cooled = normal(loc, log_sigma).tempered(0.7)
    assert torch.equal(cooled.loc, loc)
    assert torch.equal(cooled.scale.sigma, log_sigma.exp() * 0.7)
    with pytest.raises(ValueError, match="temperature .* got -1"):
        normal(loc, log_sigma).tempered(-1)


def test_detached_keeps_values_and_class_but_no_graph():
    attached = Vanilla().normal(torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True))
    detached = attached.detach()
    assert type(detached) is type(attached)
    for kept, tensor in zip((detached.loc, *detached.scale), (attached.loc, *attached.scale)):
        assert torch.equal(kept, tensor) and kept.data_ptr() == tensor.data_ptr() and not kept.requires_grad


def test_shapes_that_do_not_broadcast_are_named():
    bad, good = normal(torch.zeros(2, 3), torch.zeros(2, 4)), normal(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"loc \(2, 3\), sigma \(2, 4\)"):
        bad.rsample()
    with pytest.raises(ValueError, match=r"loc \(2, 3\), sigma \(2, 4\), value \(2, 3\)"):
        bad.log_prob(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"prior_loc \(5,\), prior_sigma \(5,\)"):
        good.kl(normal(torch.zeros(5), torch.zeros(5)))
    with pytest.raises(ValueError, match=r"eps \(7,\)"):
        good.rsample(torch.zeros(7))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64], ids=str)
def test_tensors_that_are_not_floating_point_are_named(dtype):
    good, bad = normal(torch.zeros(3), torch.zeros(3)), torch.zeros(3, dtype=dtype)
    with pytest.raises(TypeError, match=rf"prior_loc must be a floating-point tensor, got a tensor of {dtype}"):
        good.kl(Normal(bad, good.scale))
    with pytest.raises(TypeError, match="loc must be"):
        Normal(bad, good.scale).rsample()
    with pytest.raises(TypeError, match="eps must be"):
        good.rsample(bad)
    if dtype.is_complex:
        with pytest.raises(TypeError, match="value must be"):
            good.log_prob(bad)
    else:
        assert torch.equal(good.log_prob(bad), good.log_prob(bad.float()))


def test_arguments_of_another_kind_are_named():
    q = normal(torch.zeros(2), torch.zeros(2))
    with pytest.raises(TypeError, match=r"prior must be a stable_params.Normal, got torch.distributions.*StableNormal"):
        q.kl(torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match=r"eps must be a floating-point tensor, got \(5,\)"):
        q.rsample((5,))
    with pytest.raises(TypeError, match="scale must be a Scale.*Tensor"):
        Normal(torch.zeros(2), torch.ones(2))
    with pytest.raises(RuntimeError, match=r"loc \(2,\), sigma \(2,\), eps \(3,\)"):
        q.rsample(torch.zeros(3))


def test_a_number_for_loc_is_the_mean_of_all_elements():
    scale = normal(torch.zeros(2), torch.tensor([0.0, 1.0])).scale
    assert torch.equal(Normal(0.5, scale).kl(Normal(0, scale)), Normal(torch.full((2,), 0.5), scale).kl(Normal(0, scale)))
    assert Normal(0.5, scale).mean.tolist() == [0.5, 0.5] and Normal(1, scale).rsample().shape == (2,)


def test_moments_entropy_and_sample_have_the_broadcast_shape():
    q = normal(torch.randn(3, 1), torch.randn(4, requires_grad=True))
    reference = torch.distributions.Normal(q.loc, q.scale.sigma)
    for ours, theirs in ((q.mean, reference.mean), (q.stddev, reference.stddev), (q.entropy(), reference.entropy())):
        torch.testing.assert_close(ours, theirs)
    assert q.sample().shape == (3, 4) and not q.sample().requires_grad


def test_standard_normal_like_has_shape_and_dtype_of_the_tensor():
    standard = standard_normal_like(torch.full((2, 3), 7.0, dtype=torch.float64))
    assert standard.loc.dtype == torch.float64 and standard.loc.shape == (2, 3)
    zero = torch.zeros((), dtype=torch.float64)
    assert torch.equal(standard.log_prob(zero), torch.full((2, 3), -0.5 * math.log(2 * math.pi), dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_no_finite_argument_gives_nan(dtype):
    largest = torch.finfo(dtype).max
    numbers = torch.tensor([s * v for v in EXTREMES if v <= largest / 2 for s in (-1, 1)], dtype=dtype)
    distance, l1, l2 = (column.clone().requires_grad_() for column in torch.cartesian_prod(numbers, numbers, numbers).T)
    kl = normal(distance, l1).kl(normal(torch.zeros((), dtype=dtype), l2))
    log_prob = normal(torch.zeros((), dtype=dtype), l2).log_prob(distance)
    for result, arguments in ((kl, (distance, l1, l2)), (log_prob, (distance, l2))):
        assert not result.isnan().any()
        for gradient in torch.autograd.grad(result.sum(), arguments):
            assert not gradient.isnan().any()
    stable = StableNormal(0.0, Scale(l2.exp(), l2), validate_args=False)
    probability = torch.linspace(0, 1, len(l2), dtype=dtype)
    assert not stable.cdf(distance).isnan().any() and not stable.icdf(probability).isnan().any()
