"""Normal: KL, draw and log density over the whole range of float32, shapes, dtypes and errors."""

import itertools
import math

import mpmath
import pytest
import torch
from mpmath import mpf
from torch._subclasses.fake_tensor import FakeTensorMode

from stable_params import Exp, Normal, Scale, StableNormal, Vanilla, standard_normal_like

UNIT = mpf(2) ** -24  # half an ULP relative to a float32 number
SMALLEST_NORMAL = mpf(torch.finfo(torch.float32).tiny)
SUBNORMAL = mpf(2) ** -149  # the smallest float32 above 0
# From beyond float32 exp's range (-103.97, 88.72) over half of that (the range of its square) down to what vanishes
# beside 1. The values around 44.5 against 0 are where exp(2r)/2 is about to overflow.
LOG_SIGMAS = [-120, -104, -103, -90, -88.5, -60, -52, -44.7, -20, -1, -1e-3, -1e-7, 0]
LOG_SIGMAS += [1e-12, 1e-4, 0.5, 10, 22, 44.3, 44.5, 44.69, 44.72, 45, 88.5, 89, 104, 120]
DISTANCES = [0, 1e-30, -1e-20, 1e-10, -1e-3, 1, 1e3, -1e10, 1e20, 1e30]
LARGEST = mpf(torch.finfo(torch.float32).max)


def normal(loc, log_sigma):
    return Normal(loc, Scale(log_sigma.exp(), log_sigma))


@pytest.fixture(scope="module")
def grid():
    """Every (distance, log sigma1, log sigma2) with the float32 KL and its three gradients."""
    points = torch.tensor(list(itertools.product(DISTANCES, LOG_SIGMAS, LOG_SIGMAS)))
    delta, l1, l2 = (column.clone().requires_grad_() for column in points.T)
    kl = normal(delta, l1).kl(normal(torch.zeros(len(points)), l2))
    return points.tolist(), kl.detach(), torch.autograd.grad(kl.sum(), (delta, l1, l2))


@pytest.fixture(scope="module")
def exact(grid):
    """Per point: r = log(sigma1/sigma2), exp(2 r), x^2 = (distance/sigma2)^2, in 50 digits."""
    with mpmath.workdps(50):
        rows = [(mpf(l1) - mpf(l2), mpf(delta), mpf(l2)) for delta, l1, l2 in grid[0]]
        return [(r, mpmath.exp(2 * r), (delta * mpmath.exp(-l2)) ** 2) for r, delta, l2 in rows]


def promised(points):
    """Where sigma2 is a normal number or the means are equal: elsewhere the distance of the means counts too little."""
    return [i for i, (delta, _, l2) in enumerate(points) if delta == 0 or mpmath.exp(l2) >= SMALLEST_NORMAL]


def test_kl_is_accurate_over_the_whole_range_of_float32(grid, exact, assert_within):
    # r is rounded once (half an ULP, times |dKL/dr| = |exp(2r) - 1|). 1/sigma enters x^2 twice, each within an ULP, which
    # is two units. Products and sums round by one unit each. Below its normal numbers 1/sigma is off by SUBNORMAL.
    points, kl, _ = grid
    true = [mpmath.expm1(2 * r) / 2 - r + x2 / 2 for r, _, x2 in exact]
    keep = [i for i in promised(points) if not LARGEST / 2 < true[i] <= LARGEST]  # twice the value overflows there
    expected = [true[i] for i in keep]
    conditioning = [abs(exact[i][0]) * (2 + abs(mpmath.expm1(2 * exact[i][0]))) for i in keep]
    allowed = [UNIT * (12 * want + slack) + _floor(points[i], exact[i])
               for want, slack, i in zip(expected, conditioning, keep)]
    assert_within([points[i] for i in keep], kl[keep], expected, allowed)


def test_kl_has_no_nan_and_overflows_only_where_twice_the_truth_does(grid, exact):
    points, kl, _ = grid
    true = [mpmath.expm1(2 * r) / 2 - r + x2 / 2 for r, _, x2 in exact]
    assert not kl.isnan().any()
    assert kl[torch.tensor([value < LARGEST / 2 for value in true])].isfinite().all()
    assert kl[[i for i in promised(points) if true[i] > LARGEST]].isinf().all()


def test_kl_gradients_are_finite_and_right_where_the_truth_is_representable(grid, exact, assert_within):
    # 1/sigma enters as above, exp(2r) suffers from r's rounding. On its way the gradient by l2 is x delta.
    points, _, gradients = grid
    true = []
    for (r, ratio, x2), (delta, _, l2) in zip(exact, points):
        true.append((mpf(delta) * mpmath.exp(-2 * mpf(l2)), mpmath.expm1(2 * r), -mpmath.expm1(2 * r) - x2))
    on_its_way = [mpf(delta) ** 2 * mpmath.exp(-mpf(l2)) for delta, _, l2 in points]
    fits = [all(abs(value) <= LARGEST / 2 for value in (*row, way)) for row, way in zip(true, on_its_way)]
    keep = [i for i in promised(points) if fits[i]]
    assert len(keep) > len(points) / 4
    for column, gradient in enumerate(gradients):
        slack = [12 * abs(true[i][0]) if column == 0 else _slack(*exact[i]) for i in keep]
        allowed = [UNIT * units + _floor(points[i], exact[i]) for units, i in zip(slack, keep)]
        assert_within([points[i] for i in keep], gradient[keep], [true[i][column] for i in keep], allowed)


def _slack(r, ratio, x2):
    return 8 + ratio * (8 + 2 * abs(r)) + 12 * x2


def _floor(point, exact):
    """What numbers below the normal ones cost: 1/sigma, x and their products are off by SUBNORMAL each."""
    (delta, _, l2), x2 = point, exact[2]
    sigma, x = mpmath.exp(mpf(l2)), mpmath.sqrt(x2)
    return 2 * SUBNORMAL * (1 + abs(mpf(delta)) * (1 + x + x / max(sigma, SMALLEST_NORMAL)) + 1 / max(sigma, SMALLEST_NORMAL))


@pytest.mark.parametrize("log_sigma", [-120.0, -52.0, 0.0, 45.0, 120.0])
def test_kl_of_equal_normals_is_exactly_zero(log_sigma):
    same = normal(torch.tensor([3.0, -1e20]), torch.full((2,), log_sigma))
    assert same.kl(same).tolist() == [0, 0]


def test_kl_of_nearly_equal_normals_is_their_small_distance_not_rounding_noise(assert_within):
    # For small r the value is r^2 (1 + 2r/3 + ...); u - r and u^2/2 are half of it each, with an error of an ULP of r.
    log_ratio = torch.cat([sign * torch.logspace(-12, 0, 400) for sign in (-1, 1)])
    zero = torch.zeros_like(log_ratio)
    kl = normal(zero, log_ratio).kl(normal(zero, zero))
    expected = [mpmath.expm1(2 * mpf(r)) / 2 - mpf(r) for r in log_ratio.tolist()]
    allowed = [UNIT * (6 * want + 2 * abs(r)) for want, r in zip(expected, log_ratio.tolist())]
    assert_within(log_ratio.tolist(), kl, expected, allowed)
    assert (kl >= 0).all()


def test_kl_reads_log_sigma_not_sigma():
    lost = Normal(torch.zeros(1), Scale(torch.zeros(1), torch.tensor([-110.0])))
    prior = Normal(torch.zeros(1), Scale(torch.zeros(1), torch.tensor([-108.0])))
    torch.testing.assert_close(lost.kl(prior), torch.tensor([2 + math.expm1(-4) / 2]), rtol=1e-6, atol=0)


def test_kl_is_in_nats_and_directed():
    # Worked by hand: log(2/1) + (1 + 9)/(2 * 4) - 1/2.
    q, p = normal(torch.tensor([3.0]), torch.zeros(1)), normal(torch.zeros(1), torch.tensor([math.log(2)]))
    torch.testing.assert_close(q.kl(p), torch.tensor([math.log(2) + 10 / 8 - 0.5]), rtol=1e-6, atol=0)


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


# Log sigmas and distances up to the ends of each dtype's range, beside what is near 0.
EXTREMES = [0.0, 1e-8, 1e-3, 0.5, 3.0, 11.0, 21.0, 60.0, 100.0, 400.0, 1e3, 6e4, 1e30, 1e300]


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


def test_kl_of_mixed_dtypes_is_promoted_and_gradients_keep_their_own():
    loc, log_sigma = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    prior = normal(torch.zeros(3).double(), torch.ones(()).double())
    kl = normal(loc, log_sigma).kl(prior)
    kl.sum().backward()
    assert kl.dtype == torch.float64 and loc.grad.dtype == torch.float32
    torch.testing.assert_close(kl, normal(loc.double(), log_sigma.double()).kl(prior))


def test_gradient_by_log_sigma_is_right_for_ratios_of_any_size():
    l1 = torch.tensor([-torch.inf, -1e8, -1e5, -300.0, -20.0, -1e-6, 1e-6, 20.0, 44.0, 200.0], requires_grad=True)
    zero = torch.zeros_like(l1)
    (gradient,) = torch.autograd.grad(normal(zero, l1).kl(normal(zero, zero)).sum(), l1)
    expected = torch.expm1(2 * l1.detach().double()).float()
    torch.testing.assert_close(gradient, expected, rtol=4 * 2**-23, atol=0)


def kl_and_gradients(points):
    """The KL of each row (loc, log sigma1, prior loc, log sigma2) and its gradient by the row, [N, 5]."""
    points = points.clone().requires_grad_()
    loc, l1, prior_loc, l2 = points.unbind(1)
    kl = normal(loc, l1).kl(normal(prior_loc, l2))
    return torch.cat([kl.detach()[:, None], torch.autograd.grad(kl.sum(), points)[0]], 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_point_beside_one_out_of_range_has_the_kl_that_it_has_alone(dtype, sign):
    out_of_range = sign * (1.02 * math.log(torch.finfo(dtype).tiny))
    points = torch.randn(64, 4).to(dtype)
    beside = torch.cat([points, torch.tensor([[0, out_of_range, 0, out_of_range], [0, 0, 0, math.nan]], dtype=dtype)])
    together = kl_and_gradients(beside)
    assert torch.equal(together[:64], kl_and_gradients(points))
    assert torch.equal(together[64], torch.zeros(5, dtype=dtype)) and together[65].isnan().sum() == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_three_of_the_smallest_normal_sigmas_between_the_means_count_in_full(dtype):
    sigma = torch.tensor(torch.finfo(dtype).tiny, dtype=torch.float64)
    log_sigma = sigma.log().to(dtype)
    distance = (3 * log_sigma.double().exp()).to(dtype)
    kl = normal(distance, log_sigma).kl(normal(torch.zeros_like(distance), log_sigma))
    assert kl.item() == pytest.approx(4.5, rel=0.02)  # 3²/2


def test_below_the_normal_numbers_of_sigma_the_distance_of_the_means_counts_less_and_is_not_nan():
    kl, by_loc, by_log_sigma, _, by_prior_log_sigma = kl_and_gradients(torch.tensor([[1e-30, -120, 0, -120]]))[0].tolist()
    x2 = (mpf(1e-30) * mpmath.exp(120)) ** 2
    assert 0 < kl < x2 / 2 and by_loc > 0 and (by_log_sigma, by_prior_log_sigma) == (0, 0)


def test_no_points_have_no_kl():
    assert kl_and_gradients(torch.zeros(0, 4)).shape == (0, 5)


def test_shapes_and_dtypes_are_worked_out_without_data():
    with FakeTensorMode():
        loc, log_sigma = torch.empty(3, 1, requires_grad=True), torch.empty(4, requires_grad=True)
        kl = normal(loc, log_sigma).kl(normal(torch.zeros(4), torch.zeros(4)))
        by_loc, by_log_sigma = torch.autograd.grad(kl.sum(), (loc, log_sigma))
    assert (kl.shape, by_loc.shape, by_log_sigma.shape) == ((3, 4), (3, 1), (4,))
