"""The KL of two normals and its gradients over the whole range of float32, at its limits, and in other dtypes."""

import itertools
import math

import mpmath
import pytest
import torch
from mpmath import mpf
from torch._subclasses.fake_tensor import FakeTensorMode

from stable_params import Normal, Scale

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
