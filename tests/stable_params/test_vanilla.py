import pytest
import torch

from stable_params import Constant, Normal, Scale, Vanilla, VanillaNormal


def original_kl(m1, m2, l1, l2):
    return -0.5 + l2 - l1 + 0.5 * (torch.exp(l1) ** 2 + (m1 - m2) ** 2) / (torch.exp(l2) ** 2)


@pytest.mark.parametrize("spread", [0.1, 3, 60])
def test_kl_and_gradients_are_the_literal_formula_to_the_bit(spread):
    torch.manual_seed(0)
    leaves = [(spread * torch.randn(2, 7, 5)).requires_grad_() for _ in range(4)]
    m1, m2, l1, l2 = leaves
    expected = original_kl(*leaves)
    actual = Vanilla().normal(m1, l1).kl(Vanilla().normal(m2, l2))
    assert torch.equal(actual.view(torch.int32), expected.view(torch.int32))
    finite = expected.isfinite()
    wanted = torch.autograd.grad(expected[finite].sum(), leaves)
    for got, want in zip(torch.autograd.grad(actual[finite].sum(), leaves), wanted):
        assert torch.equal(got.view(torch.int32), want.view(torch.int32))


def test_kl_against_a_constant_prior_is_the_literal_formula_too():
    m1, m2, l1 = torch.randn(3, 11)
    actual = Vanilla().normal(m1, l1).kl(Constant().normal(m2, torch.randn(11)))
    assert torch.equal(actual, original_kl(m1, m2, l1, torch.zeros(11)))


def test_draw_is_the_originals_to_the_bit():
    loc, raw = torch.randn(2, 64)
    torch.manual_seed(3)
    expected = torch.exp(raw) * torch.empty_like(loc).normal_(0.0, 1.0) + loc
    torch.manual_seed(3)
    assert torch.equal(Vanilla().normal(loc, raw).rsample(), expected)


@pytest.mark.parametrize("log_sigma", [45.0, -52.0])
def test_original_form_is_nan_where_the_kl_of_equal_normals_is_zero(log_sigma):
    raw = torch.full((3,), log_sigma)
    vanilla = Vanilla().normal(torch.zeros(3), raw)
    stable = Normal(vanilla.loc, vanilla.scale)
    assert vanilla.kl(vanilla).isnan().all()
    assert stable.kl(stable).tolist() == [0, 0, 0]


def test_tempering_keeps_the_originals_kl():
    tempered = Vanilla().normal(torch.zeros(2), torch.full((2,), 45.0)).tempered(1.0)
    assert isinstance(tempered, VanillaNormal) and tempered.kl(tempered).isnan().all()


def test_normal_of_other_classes_is_the_stable_one():
    assert type(Constant().normal(torch.zeros(1), torch.zeros(1))) is Normal
    assert Vanilla()(torch.zeros(1)) == Scale(torch.ones(1), torch.zeros(1))
