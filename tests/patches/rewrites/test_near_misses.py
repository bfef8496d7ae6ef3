"""Functions that are nearly a KL or a draw are not recognised, and a sentence says why; others get no sentence."""

import ast

import pytest

from patches.rewrites.gaussians import recognise, why_not

KL_BODY = "s2 - s1 + 0.5 * ((2 * s1).exp() + (m1 - m2) ** 2) / (2 * s2).exp() - 0.5"


def _kl(body: str, before: str = "") -> str:
    return f"{before}def normal_kl(m1, m2, s1, s2):\n    return {body}\n"


def _draw(body: str, parameters: str = "mu, ls") -> str:
    return f"def draw_normal({parameters}):\n    return {body}\n"


NOT_KLS = {
    "wrong sign": (_kl(f"-({KL_BODY})"), "computes something else than the KL of two normals"),
    "wrong sign of a term": (_kl(KL_BODY.replace("s2 - s1", "s1 - s2")), "computes something else"),
    "sum": (_kl(f"({KL_BODY}).sum(dim=[1, 2, 3])"), "has [1, 2, 3], which is not known"),
    "torch.sum": (_kl(f"torch.sum({KL_BODY}, dim=(1, 2))"), "cannot be computed"),
    "mean": (_kl(f"({KL_BODY}).mean()"), "returns something else than one value for each element; does"),
    "factor": (_kl(f"2 * ({KL_BODY})"), "something else"),
    "bits": (_kl(f"({KL_BODY}) / math.log(2.0)"), "something else"),
    "offset": (_kl(f"{KL_BODY} + 0.5"), "something else"),
    "clamp": (_kl(KL_BODY.replace("(2 * s2)", "(2 * s2.clamp(min=-7))")), "has s2.clamp, which is not known"),
    "free bits": (_kl(f"torch.clamp({KL_BODY}, min=0.1)"), "has torch.clamp, which is not known"),
    "an epsilon": (_kl(KL_BODY.replace("(2 * s2).exp()", "((2 * s2).exp() + 1e-12)")), "something else"),
    "a detached prior": (_kl(KL_BODY.replace("m2", "m2.detach()")), "has m2.detach, which is not known"),
    "the data of a prior": (_kl(KL_BODY.replace("m2", "m2.data")), "has m2.data, which is not known"),
    "no_grad": (_kl(KL_BODY, "@torch.no_grad()\n"), "has the decorator torch.no_grad()"),
    "a decorator": (_kl(KL_BODY, "@summed\n"), "has the decorator summed"),
    "softplus": ("""
def gaussian_kl(m1, m2, p1, p2):

    s1, s2 = F.softplus(p1), F.softplus(p2)
    return torch.log(s2 / s1) + 0.5 * torch.exp(2 * (s1.log() - s2.log())) + (m1 - m2) ** 2 / (2 * s2 ** 2) - 0.5
""", "has F.softplus, which is not known"),
    "unknown function": (_kl(KL_BODY.replace("(2 * s1).exp()", "twice(s1.exp())")), "calls twice, which is not known"),
    "unknown constant": (_kl(KL_BODY + " + OFFSET"), "cannot be computed"),
    "a bound name": ("def kl(torch, m2, s1, s2):\n    return torch.exp(s1) + s2\n", "cannot be computed"),
    "a branch on values": (_kl(f"{KL_BODY} if m1 > 0 else m1"), "has Gt, which is not known"),
    "a loop": ("def kl(m1, s1):\n    for _ in range(3):\n        m1 = m1.exp()\n    return m1\n", "has for _ in range(3):"),
    "a changed argument": (
        "def kl(m1, m2, s1, s2):\n    d = s2 - s1\n    s1 *= 2\n"
        "    return d + 0.5 * (s1.exp() + (m1 - m2) ** 2) / (2 * s2).exp() - 0.5\n",
        "changes its argument s1"),
    "standard normal": ("def kl_std(mu, lv):\n    return -0.5 * torch.sum(1 + lv - mu ** 2 - lv.exp())\n",
                        "returns something else than one value for each element; does"),
    "mixed scales": (_kl(KL_BODY.replace("(2 * s2)", "s2").replace("s2 - s1", "s2 / 2 - s1")), "something else"),
    "Jeffreys": (_kl(f"{KL_BODY} + s1 - s2 + 0.5 * ((2 * s2).exp() + (m1 - m2) ** 2) / (2 * s1).exp() - 0.5"),
                 "something else"),
    "five needed": (_kl(f"weight * ({KL_BODY})").replace("s2):", "s2, weight):"), "something else"),
    "a default that counts": (_kl(f"weight * ({KL_BODY})").replace("s2):", "s2, weight=0.1):"), "something else"),
    "half a variance": (_kl(KL_BODY.replace("(2 * s1)", "s1")), "something else"),
    "not set": (_kl(f"torch.empty_like(m1) + {KL_BODY}"), "something else"),
    "nothing": (_kl("0 * m1.exp()"), "something else"),
    "unequal targets": ("def kl(m1, s1):\n    a, b = m1, s1, m1\n    return a * b.exp()\n", "cannot be computed"),
    "two results": (_kl(f"{KL_BODY}, m1"), "returns something else than one value for each element; does"),
    "no return": ("def kl(m1, s1):\n    m1 = s1.exp()\n", "returns something else than one value for each element; does"),
    "a huge power": (_kl("m1 + 9 ** 9 ** 9 * s1.exp()"), "cannot be computed"),
    "a huge number": (_kl(f"m1 * {10**400} * s1.exp()"), "has a number that no float holds"),
}  # fmt: skip

NOT_DRAWS = {
    "no noise": _draw("mu + ls.exp()"),
    "sigma": _draw("mu + torch.randn_like(mu) * ls"),
    "half noise": _draw("mu + 0.5 * torch.randn_like(mu) * ls.exp()"),
    "wide noise": _draw("mu + torch.empty_like(mu).normal_(0, 2) * ls.exp()"),
    "shared noise": _draw("mu + torch.randn(1) * ls.exp()"),
    "noise of channels": _draw("mu + torch.randn(mu.shape[:1]) * ls.exp()"),
    "no noise set": _draw("mu + torch.empty_like(mu) * ls.exp()"),
    "shifted noise": _draw("mu + torch.empty_like(mu).normal_(1, 1) * ls.exp()"),
    "clamped": _draw("mu + torch.randn_like(mu) * ls.clamp(max=3).exp()"),
    "temperature needed": _draw("mu + t * torch.randn_like(mu) * ls.exp()", "mu, ls, t"),
    "temperature by default": _draw("mu + t * torch.randn_like(mu) * ls.exp()", "mu, ls, t=0.7"),
    "a product with None": _draw("mu + torch.randn_like(mu) * ls.exp() * t", "mu, ls, t=None"),
    "starred": "def draw_normal(m, s, *rest):\n    return m + torch.randn_like(m) * s.exp()\n",
    "keywords": "def draw_normal(m, s, **rest):\n    return m + torch.randn_like(m) * s.exp()\n",
    "integers": _draw("mu.long() + torch.randn_like(mu) * ls.exp()"),
    "integers by name": _draw("mu.type('torch.LongTensor') + torch.randn_like(mu) * ls.exp()"),
    "integer dtype": _draw("mu.to(torch.int32) + torch.randn_like(mu) * ls.exp()"),
    "training only": """
def reparameterize(self, mu, ls):
    if self.training:
        return mu + torch.randn_like(mu) * ls.exp()
    return mu
""",
}  # fmt: skip

UNRELATED = {
    "a logistic mixture": """
def sample_mixture(logits, scales):
    u = torch.empty_like(logits).uniform_(1e-5, 1 - 1e-5)
    return logits + torch.exp(scales) * (u.log() - (1 - u).log())
""",
    "a loss": "def mixture_loss(x, l):\n    return (x - torch.exp(l[:, :3])).sum()\n",
    "a convolution": "def get_conv(i, o, k=3):\n    return nn.Conv2d(i, o, k)\n",
    "an upsampler": "def upsample(x, s):\n    return F.interpolate(x.exp(), s)\n",
    "a decoder": "def sample_uncond(self, x, t):\n    n, c, h, w = x.shape\n    return x + torch.log(t)\n",
    "a week": "def weekly(x, y):\n    return x.exp() + y\n",
    "no exponential": "def kl(a, b):\n    return a - b\n",
    "nothing given": "def draw():\n    return torch.exp(x)\n",
}


def parsed(code: str) -> ast.FunctionDef:
    return ast.parse(code.strip() + "\n").body[0]


@pytest.mark.parametrize("code, said", NOT_KLS.values(), ids=NOT_KLS)
def test_near_misses_are_not_recognised_and_explained(code, said):
    assert recognise(parsed(code)) is None
    assert said in why_not(parsed(code))


@pytest.mark.parametrize("code", NOT_DRAWS.values(), ids=NOT_DRAWS)
def test_what_is_nearly_a_draw_is_not_recognised(code):
    assert recognise(parsed(code)) is None


@pytest.mark.parametrize("code", UNRELATED.values(), ids=UNRELATED)
def test_nothing_is_said_of_other_functions(code):
    assert recognise(parsed(code)) is None
    assert why_not(parsed(code)) is None


def test_nothing_is_said_of_a_function_that_is_recognised():
    assert why_not(parsed(_kl(KL_BODY))) is None


@pytest.mark.parametrize("deep", ["m" + " + m" * 600, "-" * 400 + "m"], ids=["sum", "signs"])
def test_a_very_deep_expression_is_no_error(deep):
    function = parsed(f"def kl(m, s): return s.exp() + ({deep})")
    assert recognise(function) is None
    why_not(function)
