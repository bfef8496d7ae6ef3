import itertools

import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params import PARAMETERIZATIONS, Exp, ExpLin, Normal, ResidualNormal, Scale, Vanilla

UNIT = mpf(2) ** -24  # half an ULP relative to a float32 number
every_parameterization = pytest.mark.parametrize("parameterization", PARAMETERIZATIONS.values(), ids=PARAMETERIZATIONS)


def residual(dmu, raw, prior_loc, prior_raw, parameterization=Exp()):
    prior = ExpLin().normal(prior_loc, prior_raw)
    return ResidualNormal(parameterization.normal(dmu, raw), prior), prior


def test_loc_and_scale_are_in_units_of_the_prior():
    dmu, raw, prior_loc, prior_raw = torch.randn(4, 200, dtype=torch.float64)
    q, prior = residual(dmu, raw, prior_loc, prior_raw)
    torch.testing.assert_close(q.loc, prior_loc + prior.scale.sigma * dmu)
    torch.testing.assert_close(q.scale.sigma, prior.scale.sigma * raw.exp())
    torch.testing.assert_close(q.scale.log_sigma, q.scale.sigma.log())


@every_parameterization
def test_kl_is_that_of_loc_and_scale(parameterization):
    q, prior = residual(*torch.randn(4, 200, dtype=torch.float64), parameterization)
    # The values are of order 1; the general form loses digits of loc1 - loc2 and of log sigma1 - log sigma2.
    torch.testing.assert_close(q.kl(prior), Normal(q.loc, q.scale).kl(prior), rtol=1e-12, atol=1e-13)


def test_kl_is_accurate_whatever_the_prior(assert_within):
    log_dsigmas, dmus = [-60, -5, -0.1, -1e-4, 0, 1e-4, 0.5, 5, 30], [0, 1e-20, -1e-3, 1, -40, 1e10]
    priors = [(0, 0), (1, -20), (1e6, -100), (-3, 80)]
    points = torch.tensor([(d, m, *p) for d, m, p in itertools.product(log_dsigmas, dmus, priors)])
    log_dsigma, dmu, prior_loc, prior_log_sigma = points.T
    prior = Exp().normal(prior_loc, prior_log_sigma)
    kl = ResidualNormal(Exp().normal(dmu, log_dsigma), prior).kl(prior)
    expected = [(mpmath.expm1(2 * mpf(d)) + mpf(m) ** 2) / 2 - mpf(d) for d, m, _, _ in points.tolist()]
    # As Normal.kl: primitives within an ULP, a rounding for each product and sum.
    slack = [4 * abs(mpf(d)) for d in log_dsigma.tolist()]
    allowed = [UNIT * (12 * value + extra) + mpf(2) ** -149 for value, extra in zip(expected, slack)]
    assert_within(points.tolist(), kl, expected, allowed)


def test_kl_keeps_a_small_shift_that_loc_cannot_hold():
    q, prior = residual(torch.tensor([0.5]), torch.zeros(1), torch.tensor([1.0]), torch.tensor([-20.0]))
    assert torch.equal(q.loc, prior.loc)
    assert q.kl(prior).item() == 0.125
    assert Normal(q.loc, q.scale).kl(prior).item() == 0


def test_kl_gives_the_prior_no_gradient():
    dmu, raw, prior_loc, prior_raw = torch.randn(4, 50).unbind()
    leaves = [tensor.requires_grad_() for tensor in (dmu, raw, prior_loc, prior_raw)]
    q, prior = residual(*leaves)
    gradients = torch.autograd.grad(q.kl(prior).sum(), leaves, allow_unused=True)
    torch.testing.assert_close(gradients[0], dmu.detach())
    torch.testing.assert_close(gradients[1], torch.expm1(2 * raw.detach()))
    assert gradients[2] is gradients[3] is None


def test_any_other_prior_gets_the_kl_of_loc_and_scale():
    q, prior = residual(*torch.randn(4, 30))
    for other in (Normal(prior.loc, prior.scale), prior.tempered(0.5), ExpLin().normal(*torch.randn(2, 30))):
        assert torch.equal(q.kl(other), Normal(q.loc, q.scale).kl(other))
    assert not torch.equal(q.kl(prior.tempered(0.5)), q.kl(prior))


def test_a_vanilla_delta_keeps_the_originals_form():
    q, prior = residual(torch.zeros(2), torch.tensor([0.3, 60.0]), torch.zeros(2), torch.zeros(2), Vanilla())
    standard = Vanilla().normal(torch.zeros(()), torch.zeros(()))
    assert torch.equal(q.kl(prior), q.delta.kl(standard))
    assert q.kl(prior)[1] == torch.inf


def test_draw_is_differentiable_in_delta_and_prior():
    leaves = [tensor.requires_grad_() for tensor in torch.randn(4, 9, dtype=torch.float64).unbind()]
    eps = torch.randn(9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *parts: residual(*parts)[0].rsample(eps), leaves)
    q, _ = residual(*leaves)
    assert torch.equal(q.rsample(eps), q.scale.sigma * eps + q.loc)


def test_sigma_exists_where_one_factor_alone_does_not():
    prior = Exp().normal(torch.zeros(3), torch.tensor([-110.0, -100.0, 100.0]))
    q = ResidualNormal(Exp().normal(torch.ones(3), torch.tensor([109.0, 100.0, -100.0])), prior)
    assert torch.equal(q.scale.log_sigma, torch.tensor([-1.0, 0.0, 0.0]))
    torch.testing.assert_close(q.scale.sigma, torch.tensor([-1.0, 0.0, 0.0]).exp())


def test_tempering_scales_sigma_keeps_loc_and_the_prior():
    q, prior = residual(*torch.randn(4, 30))
    cooled = q.tempered(0.7)
    assert torch.equal(cooled.loc, q.loc) and cooled.prior is prior
    torch.testing.assert_close(cooled.scale.sigma, q.scale.sigma * 0.7)
    torch.testing.assert_close(cooled.kl(prior), Normal(q.loc, q.scale).tempered(0.7).kl(prior), rtol=1e-5, atol=1e-6)


def test_detached_keeps_tensors_and_class_but_no_graph():
    q, _ = residual(*[tensor.requires_grad_() for tensor in torch.randn(4, 9).unbind()])
    detached = q.detach()
    assert type(detached) is ResidualNormal and q.loc.requires_grad
    for name in ("delta", "prior"):
        assert not getattr(detached, name).loc.requires_grad and not getattr(detached, name).scale.sigma.requires_grad
    for kept, tensor in zip((detached.loc, *detached.scale), (q.loc, *q.scale)):
        assert kept.data_ptr() == tensor.data_ptr() and not kept.requires_grad
    assert torch.equal(detached.kl(detached.prior), q.kl(q.prior))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtype_and_broadcast_shape_are_kept(dtype):
    prior = ExpLin().normal(torch.zeros(1, 3, dtype=dtype), torch.zeros(3, dtype=dtype))
    q = ResidualNormal(ExpLin().normal(torch.ones(4, 1, dtype=dtype), torch.zeros(1, dtype=dtype)), prior)
    for result in (q.kl(prior), q.kl(prior.detach()), q.rsample(), q.log_prob(torch.zeros(3, dtype=dtype))):
        assert result.shape == (4, 3) and result.dtype == dtype


def test_nan_is_not_hidden():
    good, bad = torch.zeros(2), torch.tensor([0.0, torch.nan])
    for parts in ((bad, good, good, good), (good, bad, good, good)):
        q, prior = residual(*parts)
        assert q.kl(prior).isnan().tolist() == q.rsample().isnan().tolist() == [False, True]
    for parts in ((good, good, bad, good), (good, good, good, bad)):
        assert residual(*parts)[0].rsample().isnan().tolist() == [False, True]


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ValueError, match=r"delta_loc \(2,\), delta_sigma \(2,\), prior_loc \(3,\), prior_sigma \(3,\)"):
        residual(torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(3))
    q, _ = residual(*torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"prior_loc \(5,\)"):
        q.kl(Normal(torch.zeros(5), Scale(torch.ones(5), torch.zeros(5))))


def test_compiled_without_a_graph_break_the_kl_is_the_same():
    def kl(loc, raw, prior_loc, prior_raw):
        prior = ExpLin().normal(prior_loc, prior_raw)
        return ResidualNormal(ExpLin().normal(loc, raw), prior).kl(prior)

    arguments = [torch.randn(50, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in range(4)]
    results = [function(*arguments) for function in (kl, torch.compile(kl, fullgraph=True))]
    torch.testing.assert_close(results[1], results[0])
    ours, theirs = (torch.autograd.grad(result.sum(), arguments[:2]) for result in results)
    torch.testing.assert_close(theirs, ours)
