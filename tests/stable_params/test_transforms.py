"""Double backward, forward mode, torch.func transforms and torch.compile, for each parameterization and method."""

import pytest
import torch
from torch.func import grad, hessian, jvp, vmap

from stable_params import PARAMETERIZATIONS, Exp, ExpLin, Normal, Scale, UpBounded

METHODS = ["kl", "log_prob", "rsample"]


def call(method, form, loc, raw, prior_loc, prior_raw):
    """One of the three methods of a Normal; the prior's loc stands for the value and the noise."""
    q = form.normal(loc, raw)
    if method == "kl":
        return q.kl(form.normal(prior_loc, prior_raw))
    return q.log_prob(prior_loc) if method == "log_prob" else q.rsample(prior_loc)


def inputs(shape=(5,), dtype=torch.float64):
    """Four tensors away from raw = 0, where second derivatives of the two-branch forms jump."""
    values = torch.randn(4, *shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    return [(value + 0.1 * value.sign()).requires_grad_() for value in values]


@pytest.mark.parametrize("form", PARAMETERIZATIONS.values(), ids=lambda form: form.name)
@pytest.mark.parametrize("method", METHODS)
def test_first_and_second_derivatives_are_those_of_finite_differences(method, form):
    arguments = inputs()
    if method != "kl":
        arguments[3] = arguments[3].detach()
    function = lambda *tensors: call(method, form, *tensors)  # noqa: E731
    assert torch.autograd.gradcheck(function, arguments, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_derivatives_of_broadcast_arguments_have_the_arguments_shapes():
    shapes = [(3, 1), (1, 4), (4,), ()]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    function = lambda *tensors: call("kl", Exp(), *tensors)  # noqa: E731
    assert torch.autograd.gradcheck(function, arguments, check_forward_ad=True, check_batched_forward_grad=True)
    assert torch.autograd.gradgradcheck(function, arguments, check_fwd_over_rev=True)


@pytest.mark.parametrize("in_dims", [(0, 0, 0, 0), (0, None, None, None), (None, 1, None, 0)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_vmap_is_a_loop(method, in_dims):
    arguments = [torch.randn((3, 5) if dim == 0 else (5, 3) if dim == 1 else (5,)) for dim in in_dims]
    function = lambda *tensors: call(method, Exp(), *tensors)  # noqa: E731
    rows = [[a if dim is None else a.select(dim, i) for a, dim in zip(arguments, in_dims)] for i in range(3)]
    assert torch.equal(vmap(function, in_dims)(*arguments), torch.stack([function(*row) for row in rows]))


def test_per_example_gradients_and_tangents_are_the_closed_forms():
    loc, l1, prior_loc, l2 = (tensor.detach() for tensor in inputs((6,)))
    function = lambda *tensors: call("kl", Exp(), *tensors)  # noqa: E731
    by_loc, by_log_sigma = vmap(grad(function, argnums=(0, 1)))(loc, l1, prior_loc, l2)
    torch.testing.assert_close(by_loc, (loc - prior_loc) * torch.exp(-2 * l2))
    torch.testing.assert_close(by_log_sigma, torch.expm1(2 * (l1 - l2)))
    ones, zeros = torch.ones_like(loc), torch.zeros_like(loc)
    torch.testing.assert_close(jvp(function, (loc, l1, prior_loc, l2), (zeros, ones, zeros, zeros))[1], by_log_sigma)


def test_hessian_is_the_closed_form_for_tiny_and_for_large_differences():
    # d2 KL / dl1 dl1 = 2 exp(2 (l1 - l2)), also where a float32 expm1 has rounded to -1.
    for difference in (1e-12, -10.0, 5.0):
        function = lambda l1: call("kl", Exp(), torch.zeros(()), l1, torch.zeros(()), torch.zeros(()))  # noqa: E731
        l1 = torch.tensor(difference)
        torch.testing.assert_close(hessian(function)(l1), 2 * torch.exp(2 * l1), rtol=1e-6, atol=0)


def every_result(loc, log_sigma, value):
    """KL, log density and draw of one Normal."""
    q = Normal(loc, Scale(log_sigma.exp(), log_sigma))
    return q.kl(Normal(value, Scale(loc.exp(), 0.5 * loc))), q.log_prob(value), q.rsample(value)


def every_scale(raw):
    """sigma and log sigma of each parameterization."""
    return tuple(tensor for form in PARAMETERIZATIONS.values() for tensor in form(raw))


@pytest.mark.parametrize("function, count", [(every_result, 3), (every_scale, 1)], ids=["Normal", "scales"])
def test_compiled_without_a_graph_break_the_results_are_the_same(function, count):
    arguments = [tensor.float().detach().requires_grad_() for tensor in inputs((64,))[:count]]
    compiled = torch.compile(function, fullgraph=True)
    for ours, theirs in zip(function(*arguments), compiled(*arguments)):
        torch.testing.assert_close(theirs, ours)
    gradients = [torch.autograd.grad(sum(r.sum() for r in f(*arguments)), arguments) for f in (function, compiled)]
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("form", [ExpLin(), UpBounded(0.5)], ids=lambda form: form.flag)
def test_compiled_with_dynamic_shapes_a_block_takes_two_sizes(form):
    def block(loc, raw, prior_loc, prior_raw):
        posterior = form.normal(loc, raw)
        return posterior.kl(form.normal(prior_loc, prior_raw)).sum() + posterior.rsample(prior_loc).sum()

    torch.compiler.reset()  # all forms share the code of block, and torch counts its versions
    compiled = torch.compile(block, fullgraph=True, dynamic=True)
    for size in (3, 8):
        arguments = [tensor.float().detach().requires_grad_() for tensor in inputs((2, size))]
        results = [torch.autograd.grad(f(*arguments), arguments) for f in (block, compiled)]
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_compiled_halves_of_a_channels_last_output_are_taken_as_they_are():
    scale = UpBounded(1)

    def block(posterior_out, prior_out):
        return scale.normal(*posterior_out.chunk(2, dim=1)).kl(scale.normal(*prior_out.chunk(2, dim=1)))

    outs = [torch.randn(2, 4, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2)]
    results = [torch.autograd.grad(f(*outs).sum(), outs) for f in (block, torch.compile(block, fullgraph=True))]
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_compiled_gradient_is_accurate_relative_to_itself_near_equal_scales_and_far():
    raw = torch.cat([-torch.logspace(-8, 8, 500), torch.logspace(-8, 1.6, 500)]).requires_grad_()
    others = [torch.zeros(1000) for _ in range(3)]
    function = lambda raw, *others: call("kl", Exp(), others[0], raw, *others[1:]).sum()  # noqa: E731
    (gradient,) = torch.autograd.grad(torch.compile(function, fullgraph=True)(raw, *others), raw)
    torch.testing.assert_close(gradient.double(), torch.expm1(2 * raw.detach().double()), rtol=4 * 2**-23, atol=0)


def test_compiled_code_tells_constants_apart():
    compiled = torch.compile(lambda form, *tensors: call("kl", form, *tensors), fullgraph=True)
    arguments = [tensor.float().detach() for tensor in inputs((6,))]
    for form in (UpBounded(1), UpBounded(0.5), UpBounded(8)):
        prior = form.normal(arguments[2], arguments[3])
        torch.testing.assert_close(compiled(form, *arguments), form.normal(*arguments[:2]).kl(prior))
    # With one constant on both sides the KL depends on it only through the means: it does.
    assert len({compiled(UpBounded(omega), *arguments).sum().item() for omega in (1, 0.5, 8)}) == 3
