"""One-edit variants of a block: each is refused, or the patched block computes what the formulas say.

A variant is judged by running it: the posterior, the prior, a draw at temperature 1/2 and a constant prior.
"""

import importlib
import sys

import pytest
import torch

from patches.plan import make_plan
from patches.tree.checkout import read_checkout
from stable_params import Constant, parse_parameterization
from tests.patches.fork import FILES

CHUNK = "qm, qs = self.enc(both).chunk(2, 1)"
CUT = "pm, ps, rest = feats[:, :self.zdim], feats[:, self.zdim:2 * self.zdim], feats[:, 2 * self.zdim:]"
TRAINED = f"feats = self.prior(x)\n        {CUT}\n        z ="
FREE = f"feats = self.prior(x)\n        {CUT}\n        if t"
COOL = "if t is not None:\n            ps = ps + float(np.log(t))  # cooler"
KL, DRAW, FREE_DRAW = "kl = gaussian_kl(qm, pm, qs, ps)", "z = gaussian_draw(qm, qs)", "return x + rest + self.out(gaussian_draw(pm, ps))"
LINE = "\n        "

WORKS = {  # a text of the model, and what stands in its place; `self.seen` is compared with the last entry's formula
    "nothing": (CHUNK, CHUNK),
    "an alias of the posterior before its draw": (DRAW, "ls = qs\n        z = gaussian_draw(qm, ls)"),
    "an alias of the prior before the temperature": (f"{COOL}{LINE}return x + rest + self.out(gaussian_draw(pm, ps))", (
        "ls = ps\n        if t is not None:\n            ls = ls + float(np.log(t))\n        return x + rest + self.out(gaussian_draw(pm, ls))")),
    "an alias of the prior for the KL": (KL, "other = ps\n        kl = gaussian_kl(qm, pm, qs, other)"),
    "an alias of the output": (TRAINED, TRAINED.replace("self.prior(x)", "self.prior(x)\n        f = feats").replace("feats[", "f[")),
    "temperature under a new name": (f"ps = ps + float(np.log(t))  # cooler{LINE}return x + rest + self.out(gaussian_draw(pm, ps))", (
        "pass\n        cool = ps + float(np.log(t))\n        return x + rest + self.out(gaussian_draw(pm, cool))")),
    "temperature in the draw": (f"{COOL}{LINE}{FREE_DRAW}", FREE_DRAW.replace("ps", "ps + np.log(t)")),
    "temperature in the cut": (f"{CUT}\n        {COOL}", CUT.replace("2 * self.zdim]", "2 * self.zdim] + np.log(t)")),
    "temperature added in place": ("ps = ps + float(np.log(t))", "ps += float(np.log(t))"),
    "temperature subtracted": ("ps = ps + float(np.log(t))", "ps = ps - float(np.log(1 / t))"),
    "temperature as a tensor": ("ps = ps + float(np.log(t))", "ps = ps + torch.ones_like(ps) * np.log(t)"),
    "temperature in a conditional expression": (COOL, "ps = ps if t is None else np.log(t) + ps"),
    "cuts in two branches": (CHUNK, (
        "if x.mean() > 9:\n            qm, qs = self.enc(both).chunk(2, 1)\n        else:\n            qm, qs = self.enc(both).chunk(2, 1)")),
    "cuts in a conditional expression": (TRAINED, TRAINED.replace(CUT, CUT.replace(
        "feats[:, self.zdim:2 * self.zdim]", "(feats[:, self.zdim:2 * self.zdim] if self.training else feats[:, self.zdim:2 * self.zdim])"))),
    "a cut in a with block": (CHUNK, f"with torch.enable_grad():\n            {CHUNK}"),
    "a cut in a loop": (CHUNK, f"for _ in range(2):\n            {CHUNK}"),
    "split in one method": (TRAINED, TRAINED.replace(CUT, (
        "pm, ps, rest = torch.split(feats, [self.zdim, self.zdim, feats.shape[1] - 2 * self.zdim], dim=1)"))),
    "split by one size": (TRAINED, TRAINED.replace(CUT, "pm, ps, *_ = feats.split(self.zdim, 1)\n        rest = feats[:, 2 * self.zdim:]")),
    "chunk as a function with words": (CHUNK, "qm, qs = torch.chunk(self.enc(both), chunks=2, dim=1)"),
    "pieces by number": (CHUNK, "parts = self.enc(both).chunk(2, 1)\n        qm, qs = parts[0], parts[1]"),
    "the cut's dtype": (CHUNK, "qm, qs = self.enc(both).float().chunk(2, 1)"),
    "a dtype of the piece": (TRAINED, TRAINED.replace("2 * self.zdim], feats", "2 * self.zdim].float().contiguous(), feats")),
    "a dtype later": (DRAW, f"qs = qs.float()\n        {DRAW}"),
    "one line": (CHUNK, f"a = 1; {CHUNK}; b = a"),
    "a line of a block": (CHUNK, f"if True: {CHUNK}"),
    "a type": (CHUNK, "e: torch.Tensor = self.enc(both)\n        qm = e[:, :self.zdim]\n        qs: torch.Tensor = e[:, self.zdim:]"),
    "two names at once": (CHUNK, "e = self.enc(both)\n        qm = e[:, :self.zdim]\n        ls = qs = e[:, self.zdim:]"),
    "a walrus": (CHUNK, "e = self.enc(both)\n        qm = e[:, :self.zdim]\n        print(end=str((qs := e[:, self.zdim:]) is None)[:0])"),
    "forward by name": (TRAINED, TRAINED.replace("prior(x)", "prior.forward(x)")),
    "the size under a name": (TRAINED, TRAINED.replace("feats = ", "n = self.zdim\n        feats = ").replace("[:, :self.zdim]", "[:, :n]")
                              .replace("self.zdim:2 * self.zdim]", "n:n * 2]")),
    "dots": (TRAINED, TRAINED.replace("2 * self.zdim]", "self.zdim + self.zdim, ...]")),
    "the shape of the output": (TRAINED, TRAINED.replace("feats = self.prior(x)", "feats = self.prior(x)\n        n, c = feats.shape[:2]")),
    "words in the KL": (KL, "kl = gaussian_kl(s2=ps, m1=qm, s1=qs, m2=pm)"),
    "means exchanged in the KL": (KL, "kl = gaussian_kl(pm, qm, qs, ps)"),
    "a KL in a sum": (KL, "kl = gaussian_kl(qm, pm, qs, ps) * 1 + 0"),
    "a scale cut out once more": (DRAW, f"{DRAW}\n        self.seen = feats[:, self.zdim:2 * self.zdim].exp()", lambda q, p: p.stddev),
    "a scale kept after the draw": (DRAW, f"{DRAW}\n        self.seen = dict(s=qs.detach())['s'].exp() ** 2", lambda q, p: q.stddev**2),
    "a helper that cuts": (f"def sample(self, x, acts):\n        both = torch.cat((acts, x), 1)\n        {CHUNK}", (
        "def q(self, both):\n        qm, qs = self.enc(both).chunk(2, 1)\n        return qm, qs\n\n"
        "    def sample(self, x, acts):\n        qm, qs = self.q(torch.cat((acts, x), 1))")),
    "a draw straight from the output": (f"{CUT}\n        {COOL}\n        {FREE_DRAW}", (
        "rest = feats[:, 2 * self.zdim:]\n        return x + rest + self.out(gaussian_draw(feats[:, :self.zdim], "
        "np.log(t) + feats[:, self.zdim:self.zdim * 2]))")),
}  # fmt: skip

REFUSED = {  # with words of the message
    "a factor": (DRAW, f"qs = 0.5 * qs\n        {DRAW}", "qs = 0.5 * qs"),
    "a negative factor": (DRAW, f"qs = -0.5 * qs\n        {DRAW}", "qs = -0.5 * qs"),
    "a factor in place": (DRAW, f"qs *= 2\n        {DRAW}", "qs *= 2"),
    "a factor in the cut": (CHUNK, "qm, qs = (0.5 * self.enc(both)).chunk(2, 1)", "posterior's log scale"),
    "a residual": (DRAW, f"qs = qs + ps\n        {DRAW}", "qs = qs + ps"),
    "a residual under a new name": (KL, "new = ps + qs\n        kl = gaussian_kl(qm, pm, new, ps)", "new = ps + qs"),
    "a factor for the draw alone": (DRAW, "z = gaussian_draw(qm, 0.5 * qs)", "log scale of this draw"),
    "a state that is added": (DRAW, f"qs = qs + x[:, :2]\n        {DRAW}", "qs = qs + x"),
    "a weight that is added": (DRAW, f"qs = qs + self.bias\n        {DRAW}", "qs = qs + self.bias"),
    "a bound": (DRAW, f"qs = qs.clamp(min=-7)\n        {DRAW}", "clamp"),
    "another function of the scale": (DRAW, f"{DRAW} * torch.sigmoid(qs)", "read by sigmoid"),
    "a reversed KL": (KL, "kl = gaussian_kl(pm, qm, ps, qs)", "reversed"),
    "one scale twice": (KL, "kl = gaussian_kl(qm, pm, qs, qs)", "same piece"),
    "a wrong mean in the draw": ("gaussian_draw(pm, ps)", "gaussian_draw(ps, pm)", "draw"),
    "the prior read outside the class": ("state = block.sample_free(state, t)", (
        "feats = block.prior(state)\n            state = gaussian_draw(feats[:, :2], feats[:, 2:4])"), "outside that class"),
    "the prior read by a subclass": ("class Model", (
        "class More(Latent):\n    def scale(self, x):\n        return self.prior(x)[:, 2:4].exp()\n\n\nclass Model"), "outside that class"),
    "a function of the network": ("def sample(", "def look(self, x):\n        return map(self.prior, x)\n\n    def sample(", "not followed"),
    "an inner function": ("def sample(", "def look(self, x):\n        return lambda: self.prior(x)[:, 2:4].exp()\n\n    def sample(", "another way"),
    "another cut": (FREE, FREE.replace("self.zdim:2 * self.zdim]", "self.zdim:-4]"), "cut in a way not followed"),
    "a cut that overlaps": (DRAW, f"self.seen = feats[:, self.zdim:]\n        {DRAW}", "another way"),
    "two kinds of cut": (FREE, FREE.replace(CUT, "pm, ps, rest = feats.chunk(3, 1)"), "another way"),
    "pieces in a list": (FREE, FREE.replace(CUT, "pm, *others = feats.split(self.zdim, 1)\n        ps, rest = others[0], others[1]"), "whole"),
    "pieces in attributes": (FREE, FREE.replace(CUT, "pm, self.ps, rest = feats.split(self.zdim, 1)\n        ps = self.ps"), "whole"),
    "stars among pieces": (FREE, FREE.replace(CUT, "pm, *rest, ps = feats.split(self.zdim, 1)\n        rest = feats[:, 4:]"), "whole|way"),
    "an output changed in place": (FREE, FREE.replace("prior(x)", "prior(x)\n        feats[:, self.zdim:] *= 0.5"), "log scale of this draw"),
    "a helper beside other cuts": (f"def sample(self, x, acts):\n        both = torch.cat((acts, x), 1)\n        {CHUNK}", (
        "def q(self, both):\n        qm, qs = self.enc(both).chunk(2, 1)\n        return qm, qs\n\n"
        "    def look(self, both):\n        return self.enc(both)[:, 2:].exp()\n\n"
        "    def sample(self, x, acts):\n        qm, qs = self.q(torch.cat((acts, x), 1))"), "cut here and in q too"),
    "an output kept whole": (DRAW, f"self.seen = feats\n        {DRAW}", "whole"),
    "an output passed on whole": (DRAW, f"self.seen = torch.tanh(feats)\n        {DRAW}", "whole"),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planned(make_tree, old, new):
    assert FILES["model.py"].count(old) == 1
    tree = make_tree({name: text.replace(old, new).encode() for name, text in FILES.items()})
    return tree, *make_plan(read_checkout(tree), vendor=False)


@pytest.fixture()
def load(monkeypatch):
    """Import the model of a tree afresh, and give a block with fixed weights for these flags."""

    def latent(tree, flags):
        for name in ("hps", "gaussians", "model", "stable_scales"):
            sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(str(tree))
        monkeypatch.setattr(torch.jit, "script", lambda function: function)  # only takes time
        torch.manual_seed(0)
        made = importlib.import_module("model").Latent(importlib.import_module("hps").settings(flags))
        monkeypatch.undo()
        return made

    return latent


def run(block):
    """The outputs of the block's two ways, with the same noise for each."""
    x, acts = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        enc, feats = block.enc(torch.cat((acts, x), 1)), block.prior(x)
        torch.manual_seed(2)
        state, kl = block.sample(x, acts)
        torch.manual_seed(2)
        return x, enc, feats, state, kl, block.sample_free(x, 0.5)


@pytest.mark.parametrize("edit", WORKS.values(), ids=WORKS)
def test_a_variant_computes_the_formulas(make_tree, load, edit):
    old, new, *seen = edit
    tree, changes, problems = planned(make_tree, old, new)
    plain = run(load(tree, []))
    assert not problems
    for change in changes:
        (tree / change.path).write_bytes(change.after)
    for actual, expected in zip(run(load(tree, [])), plain):
        assert torch.equal(actual, expected)
    for flags, posterior, prior in ((["--sigma_param", "explin"], "explin", "explin"),
                                    (["--posterior_sigma_param", "upbounded1", "--prior_const1"], "upbounded1", None)):
        block = load(tree, flags)
        x, enc, feats, state, kl, free = run(block)
        q = parse_parameterization(posterior).normal(*enc.chunk(2, 1))
        p = (parse_parameterization(prior) if prior else Constant()).normal(feats[:, :2], feats[:, 2:4])
        torch.testing.assert_close(kl, q.kl(p))
        for actual, normal in ((state, q), (free, p.tempered(0.5))):
            torch.manual_seed(2)
            torch.testing.assert_close(actual, x + feats[:, 4:] + block.out(normal.rsample()).detach())
        for formula in seen:
            torch.testing.assert_close(block.seen, formula(q, p))


@pytest.mark.parametrize("old, new, said", REFUSED.values(), ids=REFUSED)
def test_a_variant_is_refused(make_tree, old, new, said):
    _, _, problems = planned(make_tree, old, new)
    assert problems and any(word in str(problems[0]) for word in said.split("|")), problems
