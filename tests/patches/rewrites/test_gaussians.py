"""KLs and draws are recognised by what they compute, with the roles of their parameters."""

import ast
import math

import numpy as np
import pytest
import torch

from patches.code.source import Source
from patches.rewrites.gaussians import Draw, Kl, recognise

# code, parameters in the order loc, log_scale, prior_loc, prior_log_scale, and whether scales are log variances
KLS = {
    "plain": ("""
def kl(m1, m2, s1, s2):
    return s2 - s1 - 0.5 + 0.5 * (torch.exp(s1) ** 2 + (m1 - m2) ** 2) / torch.exp(s2) ** 2
""", "m1 s1 m2 s2", False),
    "scripted, typed": ('''
@torch.jit.script
def divergence(qm: torch.Tensor, qs: torch.Tensor, pm: torch.Tensor, ps: torch.Tensor) -> torch.Tensor:
    """In nats."""
    ratio: torch.Tensor = (qs - ps).exp()
    return 0.5 * (ratio.pow(2) + torch.square((qm - pm) / ps.exp())) - (qs - ps) - 1 / 2
''', "qm qs pm ps", False),
    "log variances": ("""
def normal_kl(mean1, logvar1, mean2, logvar2):
    ratio = torch.exp(logvar1 - logvar2)
    return 0.5 * (-1.0 + logvar2 - logvar1 + ratio + ((mean1 - mean2) ** 2) * torch.exp(-logvar2))
""", "mean1 logvar1 mean2 logvar2", True),
    "the other way round": ("""
def kl(m1, m2, s1, s2):
    return s1 - s2 - 0.5 + 0.5 * (torch.exp(s2) ** 2 + (m1 - m2) ** 2) / torch.exp(s1) ** 2
""", "m2 s2 m1 s1", False),
    "scales first": ("""
def f(a, b, c, d):
    return b - a + 0.5 * ((2 * a).exp() + (d - c) * (d - c)) * (-2 * b).exp() - .5
""", "c a d b", False),
    "keyword only": ("""
def kl(*, prior_loc, prior_ls, loc, ls):
    precision = torch.exp(-2.0 * prior_ls)
    distance = torch.pow(prior_loc - loc, 2)
    return 0.5 * precision * (distance + torch.exp(2.0 * ls)) + prior_ls - ls - 0.5
""", "loc ls prior_loc prior_ls", False),
    "positional only, with expm1": ("""
def kl(m, s, /, pm, ps):
    d = s - ps
    return torch.special.expm1(2 * d).mul(0.5).sub(d) + (m - pm).square() * torch.exp(-2 * ps) / 2
""", "m s pm ps", False),
    "logarithms of sigmas": ("""
def kl(mu_q, log_q, mu_p, log_p):
    sigma_q, sigma_p = torch.exp(log_q), log_p.exp()
    unit = (mu_q - mu_p).div(sigma_p)
    return torch.log(sigma_p) - sigma_q.log() + 0.5 * ((sigma_q / sigma_p) ** 2 + unit ** 2 - 1)
""", "mu_q log_q mu_p log_p", False),
    "step by step": ("""
def kl(m, pm, s, ps):
    out = torch.zeros_like(m)
    out += ps
    out -= s
    gap = m - pm
    gap *= gap
    out += 0.5 * (s.clone().mul_(2).exp() + gap) * torch.exp(ps + ps).reciprocal()
    return out.add_(-0.5)
""", "m s pm ps", False),
    "a method": ("""
def kl(self, m1, v1, m2, v2):
    std1, std2 = (v1 / 2).exp(), torch.sqrt(torch.exp(v2))
    return 0.5 * (v2 - v1) - 0.5 + (std1 ** 2 + (m1 - m2) ** 2) / (2 * std2 ** 2)
""", "m1 v1 m2 v2", True),
    "static": ("""
@staticmethod
def kl(m1, v1, m2, v2):
    first, second = v1.exp(), v2.exp()
    return -0.5 * (1 + v1 - v2 - first / second - (m2 - m1) ** 2 / second)
""", "m1 v1 m2 v2", True),
    "squares multiplied out": ("""
def kl(m1, m2, s1, s2):
    distance = m1.double() ** 2 - 2 * m1.to(torch.float64) * m2 + m2.to(m1.device) ** 2
    return -s1 + s2 + (distance + torch.exp(2 * s1)) * torch.exp(torch.neg(2 * s2)) * 0.5 - 0.5
""", "m1 s1 m2 s2", False),
    "entropies": ("""
def kl(m1, s1, m2, s2):
    half_log_2pi = 0.5 * math.log(2 * math.pi)
    entropy = half_log_2pi + 0.5 + s1
    cross = 0.5 * np.log(2 * np.pi) + s2 + 0.5 * ((2 * s1).exp() + (m1 - m2) ** 2) / (2 * s2).exp()
    return cross - entropy
""", "m1 s1 m2 s2", False),
    "defaults that do nothing": ("""
def kl(m1, m2, s1, s2, beta=1.0, reduction='mean', mask=None):
    out = s2 - s1 + 0.5 * ((2 * s1).exp() + (m1 - m2) ** 2) / (2 * s2).exp() - 0.5
    if reduction == 'sum':
        return out.sum()
    return beta * out if mask is None else out * mask
""", "m1 s1 m2 s2", False),
}  # fmt: skip

# code, parameters in the order loc, log_scale, and whether scales are log variances
DRAWS = {
    "plain": ("""
@torch.jit.script
def draw(mean, log_std):
    noise = torch.empty_like(mean).normal_(0., 1.)
    return mean + log_std.exp() * noise
""", "mean log_std", False),
    "randn_like": ("""
def f(x, y):
    return torch.randn_like(x, device=x.device, dtype=x.dtype) * torch.exp(y) + x
""", "x y", False),
    "log variance": ("""
def reparameterize(self, mu, logvar):
    std = logvar.mul(0.5).exp_()
    eps = torch.FloatTensor(std.size()).normal_().to(mu.device)
    return eps.mul(std).add_(mu)
""", "mu logvar", True),
    "scale first": ("""
def sample(log_scale: torch.Tensor, loc: torch.Tensor):
    return torch.add(loc, torch.exp(log_scale) * torch.randn(loc.shape, device=loc.device))
""", "loc log_scale", False),
    "temperature": ("""
def sample(mu, logsigma, temperature=1.0):
    if temperature != 1.0:
        logsigma = logsigma + math.log(temperature)
    return mu + torch.exp(logsigma) * torch.empty(mu.shape).normal_()
""", "mu logsigma", False),
    "noise given or made": ("""
def sample(mu, logsigma, eps=None):
    if eps is None:
        eps = torch.randn(mu.shape, dtype=mu.dtype)
    return mu + eps * torch.exp(logsigma)
""", "mu logsigma", False),
    "noise in an expression": ("""
def sample(mu, lv, *, eps=None):
    eps = torch.empty(mu.shape).normal_(mean=0, std=1) if eps is None else eps
    return torch.sqrt(torch.exp(lv)) * eps + mu
""", "mu lv", True),
}  # fmt: skip

IN_A_CLASS = r"""
class Layer:
    # sigma * noise + mean
    @torch.jit.ignore
    def sample(self, mean, log_std):  # no temperature
        '''Doesn't care about \d.'''

        return mean + (  # a line
            torch.randn_like(mean)
* log_std.exp())
"""


def parsed(code: str) -> ast.FunctionDef:
    return ast.parse(code.strip() + "\n").body[0]


def on_tensors(code: str, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """Runs the function, without its decorators and its self."""
    lines = [line for line in code.strip().splitlines() if not line.startswith("@")]
    names = {"torch": torch, "math": math, "np": np}
    exec("\n".join(lines).replace("(self, ", "("), names)
    function = names[parsed(code).name]
    return function(*given.values()) if "/," in code else function(**given)


@pytest.mark.parametrize("code, order, variance", KLS.values(), ids=KLS)
def test_a_kl_is_recognised_with_its_roles(code, order, variance):
    roles = dict(zip(order.split(), ("loc", "log_scale", "prior_loc", "prior_log_scale")))
    assert recognise(parsed(code)) == Kl(roles, "log variance" if variance else "log sigma")


@pytest.mark.parametrize("code, order, variance", DRAWS.values(), ids=DRAWS)
def test_a_draw_is_recognised_with_its_roles(code, order, variance):
    assert recognise(parsed(code)) == Draw(dict(zip(order.split(), ("loc", "log_scale"))), "log variance" if variance else "log sigma")


@pytest.mark.parametrize("code, order, variance", KLS.values(), ids=KLS)
def test_the_recognised_kls_are_kls_in_torch(code, order, variance):
    m1, s1, m2, s2 = torch.randn(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = dict(zip(order.split(), (m1, s1, m2, s2)))
    given = {name: given[name].clone() for name in recognise(parsed(code)).roles}
    sigma1, sigma2 = ((s / 2).exp() if variance else s.exp() for s in (s1, s2))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(m1, sigma1), normal(m2, sigma2))
    torch.testing.assert_close(on_tensors(code, given), expected)


@pytest.mark.parametrize("code, order, variance", DRAWS.values(), ids=DRAWS)
def test_the_recognised_draws_are_draws_in_torch(code, order, variance):
    mean, log_scale = order.split()
    given = {mean: torch.full((100, 100), 3.0), log_scale: torch.full((100, 100), -0.7)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = on_tensors(code, {name: given[name].clone() for name in recognise(parsed(code)).roles})
    sigma = math.exp(-0.35 if variance else -0.7)
    assert drawn.mean().item() == pytest.approx(3, abs=0.03)
    assert drawn.std().item() == pytest.approx(sigma, rel=0.03)
    assert len(drawn.unique()) > 9000  # each element has its own noise


def test_functions_in_classes_and_with_comments_are_read(recwarn):
    method = Source("layer.py", IN_A_CLASS.encode()).tree.body[0].body[0]
    assert recognise(method) == Draw({"mean": "loc", "log_std": "log_scale"}, "log sigma")
    assert not recwarn.list  # about the escape in its docstring


def test_code_is_never_run(tmp_path):
    mark = tmp_path / "ran"
    touch = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    for code in (f"def kl(a, b={touch}):\n    {touch}\n    return a.exp()", f"@f({touch})\ndef kl(a, b): return a"):
        assert recognise(parsed(code)) is None
    assert not mark.exists()


def test_the_first_location_belongs_to_the_first_scale():
    body = "d - c - 0.5 + 0.5 * ((2 * c).exp() + (a - b) ** 2) * (-2 * d).exp()"
    found = recognise(parsed(f"def kl(b, d, a, c): return {body}"))
    assert found.roles == {"b": "prior_loc", "d": "prior_log_scale", "a": "loc", "c": "log_scale"}


@pytest.mark.parametrize("scale", ["sigma", "variance"])
def test_a_kl_of_the_scale_itself_is_recognised_as_one(scale):
    power = {"sigma": "2", "variance": "1"}[scale]
    body = f"torch.log(s2 / s1) * {power} / 2 + (s1 ** {power} + (m1 - m2) ** 2) / s2 ** {power} / 2 - 0.5"
    assert recognise(parsed(f"def kl(m1, m2, s1, s2): return {body}")).scale == scale
