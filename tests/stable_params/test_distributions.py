import copy
import math

import mpmath
import pytest
import torch
from torch import distributions
from torch.distributions import Independent, kl_divergence

from stable_params import Exp, ExpLin, NaiveExp, Normal, Scale, StableNormal

UNIT = mpmath.mpf(2) ** -24  # half an ULP relative to a float32 number
FAR = torch.tensor([-110.0, -104.0, 89.0, 110.0])  # log sigmas whose sigma a float32 rounds to 0 or to infinity


def stable(loc, log_sigma, **options):
    return StableNormal.from_raw(loc, log_sigma, Exp(), **options)


def plain(loc, log_sigma):
    return distributions.Normal(loc, log_sigma.exp(), validate_args=False)


@pytest.fixture
def tensors():
    """loc, log sigma, loc and log sigma of a second normal, value: float64 of one shape, with moderate scales."""
    torch.manual_seed(0)
    return torch.randn(5, 4, 6, dtype=torch.float64)


def assert_same_formula(actual, expected):
    # Thousands of float64 roundings: far more than two evaluations differ by, far less than two formulas do.
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_agrees_with_the_plain_normal_where_that_is_accurate(tensors):
    loc, log_sigma, _, _, value = tensors
    ours, theirs = stable(loc, log_sigma), plain(loc, log_sigma)
    assert_same_formula(ours.log_prob(value), theirs.log_prob(value))
    assert_same_formula(ours.entropy(), theirs.entropy())
    assert_same_formula(ours.cdf(value), theirs.cdf(value))
    assert_same_formula(ours.icdf(value.sigmoid()), theirs.icdf(value.sigmoid()))
    for name in ("mean", "mode", "stddev", "variance", "batch_shape", "event_shape"):
        assert_same_formula(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("draw", ["sample", "rsample"])
def test_draws_are_the_plain_normals_to_the_bit(tensors, draw):
    loc, log_sigma = tensors[:2].float()
    draws = []
    for distribution in (stable(loc, log_sigma), plain(loc, log_sigma)):
        torch.manual_seed(5)
        draws.append(getattr(distribution, draw)((3,)))
    assert draws[0].shape == (3, 4, 6) and torch.equal(*draws)


def test_rsample_passes_gradients_to_loc_and_raw_and_sample_none():
    loc, raw = torch.zeros(3, requires_grad=True), torch.full((3,), 0.4, requires_grad=True)
    torch.manual_seed(2)
    eps = torch.randn(3)
    torch.manual_seed(2)
    stable(loc, raw).rsample().sum().backward()
    assert loc.grad.tolist() == [1, 1, 1] and torch.equal(raw.grad, eps * raw.detach().exp())
    assert not stable(loc, raw).sample().requires_grad


@pytest.mark.parametrize("posterior, prior", [(stable, stable), (stable, plain), (plain, stable)])
def test_kl_agrees_with_the_plain_one_in_value_and_gradients(tensors, posterior, prior):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors[:4]]
    actual = kl_divergence(posterior(*leaves[:2]), prior(*leaves[2:]))
    expected = kl_divergence(plain(*leaves[:2]), plain(*leaves[2:]))
    assert_same_formula(actual, expected)
    for ours, theirs in zip(torch.autograd.grad(actual.sum(), leaves), torch.autograd.grad(expected.sum(), leaves)):
        assert_same_formula(ours, theirs)


def test_values_are_those_of_this_librarys_normal_to_the_bit(tensors):
    l1, l2 = FAR.repeat(6, 1).T, FAR.repeat(6, 1).T.flip(0)
    loc, _, prior_loc, _, value = tensors.float()
    q, p = Normal(loc, Exp()(l1)), Normal(prior_loc, Exp()(l2))
    assert torch.equal(stable(loc, l1).log_prob(value), q.log_prob(value))
    assert torch.equal(kl_divergence(stable(loc, l1), stable(prior_loc, l2)), q.kl(p))


def test_finite_where_sigma_is_not_representable_and_the_plain_normal_fails():
    zero = torch.zeros(4)
    constant = torch.full((4,), 0.5 * math.log(2 * math.pi))
    assert torch.equal(stable(zero, FAR).log_prob(zero), -FAR - constant)
    torch.testing.assert_close(stable(zero, FAR).entropy(), FAR + 0.5 + constant, rtol=1e-6, atol=0)
    assert stable(zero, FAR).cdf(zero).tolist() == [0.5] * 4
    assert stable(zero, FAR).icdf(torch.full((4,), 0.5)).tolist() == [0] * 4
    assert not plain(zero, FAR).log_prob(zero).isfinite().any()
    assert not plain(zero, FAR).entropy().isfinite().any()


def test_kl_and_its_gradients_are_finite_where_the_plain_ones_are_not():
    # exp(-60)^2 is below the smallest float32: torch.distributions takes the log of that square.
    results = []
    for make in (stable, plain):
        loc, log_sigma, prior_log_sigma = leaves = torch.tensor([[0.5], [-60.0], [0.0]]).requires_grad_().unbind()
        kl = kl_divergence(make(loc, log_sigma), make(torch.zeros(1), prior_log_sigma))
        results.append(torch.stack([kl, *torch.autograd.grad(kl, leaves)]).flatten())
    assert results[0].tolist() == [60 - 0.5 + 0.125, 0.5, -1, 0.75]
    assert results[1].isfinite().tolist() == [False, True, False, False]


def test_kl_against_a_plain_standard_normal_holds_at_the_extremes_in_both_orders():
    standard = distributions.Normal(torch.zeros(2), torch.ones(2))
    log_sigma = torch.tensor([110.0, 60])
    narrow, wide = stable(torch.zeros(2), -log_sigma), stable(torch.zeros(2), log_sigma)
    assert kl_divergence(narrow, standard).tolist() == [109.5, 59.5]
    assert kl_divergence(standard, wide).tolist() == [109.5, 59.5]


def test_kl_of_independents_sums_over_the_event():
    q, p = stable(torch.zeros(2, 3), torch.full((2, 3), -110.0)), distributions.Normal(torch.zeros(2, 3), 1.0)
    assert kl_divergence(Independent(q, 1), Independent(p, 1)).tolist() == [3 * 109.5] * 2
    same = stable(torch.zeros(2, 3), torch.full((2, 3), 110.0))
    assert kl_divergence(Independent(same, 2), Independent(same, 2)).item() == 0


def test_small_probabilities_keep_their_digits(assert_within):
    # erfc magnifies a relative error of its argument x/sqrt 2 by x^2 where x is large; x is rounded five times (the
    # difference, two exact powers of 1, the root of 1/2 and the product), erfc itself is within two ULP.
    x = torch.linspace(0, -12, 61)
    expected = [mpmath.ncdf(mpmath.mpf(value)) for value in x.tolist()]
    allowed = [UNIT * want * (5 * value**2 + 8) for want, value in zip(expected, x.tolist())]
    assert_within(x.tolist(), stable(torch.zeros(61), torch.zeros(61)).cdf(x), expected, allowed)


def test_cdf_and_icdf_are_inverse_in_units_of_a_sigma_out_of_range():
    # The relative spacing of 1 - p near p = 1 is a few 1e-6 of the probability density here.
    probability = torch.tensor([0.05, 0.3, 0.5, 0.9])
    for log_sigma in (-40.0, 40.0):
        ours = stable(torch.zeros(4), torch.full((4,), log_sigma))
        torch.testing.assert_close(ours.cdf(ours.icdf(probability)), probability, rtol=1e-5, atol=0)


def test_expand_shares_memory_and_keeps_log_scale_class_and_validation():
    base = stable(torch.zeros(3, 1), torch.full((1, 2), -110.0), validate_args=False)
    wide = base.expand((4, 3, 2))
    assert isinstance(wide, StableNormal) and wide.batch_shape == (4, 3, 2)
    assert wide.scale.shape == wide.log_scale.shape == wide.loc.shape == wide.rsample().shape == (4, 3, 2)
    assert wide.log_scale.data_ptr() == base.log_scale.data_ptr() and not wide._validate_args
    assert kl_divergence(wide, distributions.Normal(0.0, 1.0)).tolist() == torch.full((4, 3, 2), 109.5).tolist()


def test_expand_of_a_subclass_with_its_own_constructor_is_refused_as_elsewhere_in_torch():
    class Renamed(StableNormal):
        def __init__(self):
            super().__init__(0.0, Exp()(torch.zeros(2)))

    with pytest.raises(NotImplementedError, match="expand"):
        Renamed().expand((3, 2))


def test_serves_as_the_base_of_a_transformed_distribution():
    doubled = distributions.TransformedDistribution(
        stable(torch.zeros(2), torch.full((2,), -110.0)), distributions.AffineTransform(1.0, 2.0)
    ).expand((3, 2))
    expected = 110 - 0.5 * math.log(2 * math.pi) - math.log(2)
    torch.testing.assert_close(doubled.log_prob(torch.ones(3, 2)), torch.full((3, 2), expected), rtol=1e-6, atol=0)


def test_copies_keep_log_scale():
    assert torch.equal(copy.deepcopy(stable(torch.zeros(4), FAR)).log_scale, FAR)


def test_from_raw_and_from_a_scale_are_the_same_distribution():
    loc, raw = torch.randn(2, 5)
    a, b = StableNormal.from_raw(loc, raw, ExpLin()), StableNormal(loc, ExpLin()(raw))
    for name in ("loc", "scale", "log_scale"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert torch.equal(a.log_scale, ExpLin()(raw).log_sigma) and torch.equal(a.scale, ExpLin()(raw).sigma)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtype_and_shape_are_kept_also_with_a_float_for_loc(dtype):
    ours = stable(0.5, torch.zeros(2, 3, dtype=dtype))
    value = torch.full((2, 3), 0.25, dtype=dtype)
    results = [ours.loc, ours.rsample(), ours.sample(), ours.log_prob(value), ours.entropy(), ours.cdf(value)]
    for result in [*results, ours.icdf(value), kl_divergence(ours, ours)]:
        assert result.shape == (2, 3) and result.dtype == dtype


def test_sigma_that_under_or_overflowed_is_no_reason_for_refusal():
    scale = stable(torch.zeros(4), FAR, validate_args=True).scale
    assert scale.tolist() == [0, scale[1].item(), torch.inf, torch.inf] and scale[1] < 1e-44
    with pytest.raises(ValueError, match="scale"):
        distributions.Normal(torch.zeros(4), FAR.exp(), validate_args=True)


@pytest.mark.parametrize(
    "loc, sigma, log_sigma, named",
    [
        (math.nan, 1.0, 0.0, "parameter loc"),
        (0.0, math.nan, 0.0, "parameter scale"),
        (0.0, -1.0, 0.0, "parameter scale"),
        (0.0, 1.0, math.nan, "parameter log_scale"),
        (0.0, 0.0, -math.inf, "parameter log_scale"),
    ],
)
def test_validation_refuses_what_is_no_normal(loc, sigma, log_sigma, named):
    scale = Scale(torch.tensor([1.0, sigma]), torch.tensor([0.0, log_sigma]))
    with pytest.raises(ValueError, match=named):
        StableNormal(torch.tensor([0.0, loc]), scale, validate_args=True)
    StableNormal(torch.tensor([0.0, loc]), scale, validate_args=False)


def test_validation_refuses_nan_from_the_network_and_naive_exp_where_it_lost_the_scale():
    with pytest.raises(ValueError, match="parameter scale"):
        stable(torch.zeros(1), torch.tensor([torch.nan]), validate_args=True)
    with pytest.raises(ValueError, match="parameter log_scale"):
        StableNormal.from_raw(torch.zeros(1), torch.tensor([-110.0]), NaiveExp(), validate_args=True)


@pytest.mark.parametrize("method", ["log_prob", "cdf"])
def test_validation_refuses_a_nan_value_and_without_it_nan_is_not_hidden(method):
    value = torch.tensor([torch.nan])
    with pytest.raises(ValueError, match="value"):
        getattr(stable(0.0, torch.zeros(1), validate_args=True), method)(value)
    assert getattr(stable(0.0, torch.zeros(1), validate_args=False), method)(value).isnan().all()


@pytest.mark.parametrize("broken", ["loc", "raw"])
def test_nan_parameters_reach_every_result(broken):
    given = {"loc": torch.zeros(1), "raw": torch.zeros(1), broken: torch.tensor([torch.nan])}
    ours = stable(given["loc"], given["raw"], validate_args=False)
    standard, value = stable(0.0, torch.zeros(1)), torch.tensor([0.3])
    results = [ours.log_prob(value), ours.cdf(value), ours.icdf(value), ours.rsample()]
    for result in [*results, kl_divergence(ours, standard), kl_divergence(standard, ours)]:
        assert result.isnan().all()


@pytest.mark.parametrize(
    "build, error, named",
    [
        (lambda: StableNormal(torch.zeros(2), torch.arange(2)), TypeError, "scale must be .*torch.int64"),
        (lambda: StableNormal(torch.zeros(2), "1"), TypeError, "scale must be .*'1'"),
        (lambda: stable(torch.arange(2), torch.zeros(2)), TypeError, "loc must be .*torch.int64"),
        (lambda: stable(torch.zeros(2) * 1j, torch.zeros(2)), TypeError, "loc must be .*torch.complex64"),
        (lambda: stable(torch.zeros(2), torch.arange(2)), TypeError, "raw must be .*torch.int64"),
        (lambda: StableNormal.from_raw(0.0, torch.zeros(2), "explin"), TypeError, "parameterization .*'explin'"),
        (lambda: stable(torch.zeros(2), torch.zeros(3)), ValueError, r"loc \(2,\), sigma \(3,\)"),
        (lambda: StableNormal(0.0, Scale(torch.ones(2), torch.zeros(3))), ValueError, r"log_sigma \(3,\)"),
        (lambda: stable(0.0, torch.zeros(2)).log_prob(torch.zeros(3)), ValueError, "not broadcast.*[3]"),
    ],
)
def test_bad_input_is_refused_by_name(build, error, named):
    with pytest.raises(error, match=named):
        build()


def test_arg_constraints_name_the_constructor_s_arguments_as_in_torch():
    q = stable(torch.randn(3), torch.randn(3))
    for copied in (type(q)(**{name: getattr(q, name) for name in q.arg_constraints}), type(q)(q.loc, q.scale)):
        assert torch.equal(copied.loc, q.loc) and torch.equal(copied.scale, q.scale)
        torch.testing.assert_close(copied.log_scale, q.log_scale)
    assert kl_divergence(StableNormal(0.0, 1.0), distributions.Normal(0.0, 1.0)).item() == 0


def test_a_sigma_of_zero_without_its_logarithm_is_refused():
    with pytest.raises(ValueError, match="parameter log_scale"):
        StableNormal(torch.zeros(1), torch.zeros(1), validate_args=True)


def test_log_prob_and_cdf_take_integers():
    ours, theirs, value = stable(torch.randn(3), torch.randn(3)), None, torch.tensor([0, 1, -2])
    theirs = plain(ours.loc, ours.log_scale)
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))
    torch.testing.assert_close(ours.cdf(value), theirs.cdf(value))
    torch.testing.assert_close(ours.log_prob(2), theirs.log_prob(torch.tensor(2)))


def test_shapes_that_do_not_broadcast_are_the_runtime_error_that_torch_s_users_catch():
    with pytest.raises(RuntimeError, match="loc"):
        stable(torch.zeros(2), torch.zeros(3))
    with pytest.raises(RuntimeError, match="prior_loc"):
        kl_divergence(stable(torch.zeros(2), torch.zeros(2)), stable(torch.zeros(3), torch.zeros(3)))
