"""The rewrite of a decoder block: what it makes of each way to write one, what it leaves alone, what it refuses."""

import textwrap

import pytest

from patches.problems import CannotPatch
from patches.rewrites import latents
from tests.patches import edits

HPS = """
def arguments(parser):
    parser.add_argument('--zdim', type=int)
    parser.add_argument('--grad_clip', type=float)
"""
HELPERS = """
import torch

@torch.jit.script
def kl_of_two(m1, m2, s1, s2):
    return s2 - s1 - 0.5 + 0.5 * (torch.exp(s1) ** 2 + (m1 - m2) ** 2) / torch.exp(s2) ** 2

def draw(m, s):
    return torch.randn_like(m) * torch.exp(s) + m
"""
BLOCK = """
from helpers import draw, kl_of_two


class Latent(nn.Module):
    def __init__(self, H, res):
        super().__init__()
        self.zdim = H.zdim  # latent channels
        self.enc, self.prior = net(H.width), net(H.width)

    def both(self, x, acts):
        qm, qs = self.enc(joined(x, acts)).chunk(2, dim=1)   # posterior
        feats = self.prior(x)
        pm, ps, rest = feats[:, :self.zdim], feats[:, self.zdim:2*self.zdim], feats[:, 2 * self.zdim:]
        z = draw(qm, qs)
        return z, kl_of_two(qm, pm, qs, ps)

    def free(self, x, t=None):
        feats = self.prior(x)
        pm, ps = feats[:, :self.zdim], feats[:, self.zdim:2 * self.zdim]
        if t is not None:
            ps = ps + np.log(t)
        return draw(pm, ps)
"""


def rewritten(block, **others):
    """The new text of block.py in a checkout with hps.py, helpers.py and `others`."""
    texts = {"hps.py": HPS, "helpers.py": HELPERS, "block.py": block}
    texts |= {name.replace("__", "/") + ".py": text for name, text in others.items()}
    return block_of(texts)


def block_of(texts):
    """The new text of block.py in a checkout of these files."""
    sources = edits.parse(texts)
    changed = edits.edited(sources, latents.rewrite(sources))
    assert changed.keys() == {"block.py"}
    return changed["block.py"]


def differences(before, after):
    """Lines only in `after`, stripped; lines of `before` must all be there still, except those of a KL."""
    new = [line.strip() for line in after.splitlines() if line not in before.splitlines()]
    lost = [line for line in before.splitlines() if line not in after.splitlines()]
    assert all("kl" in line for line in lost), lost
    return new


def test_block_gets_scales_conversions_and_a_choice_of_kl_and_keeps_every_other_line():
    after = rewritten(BLOCK)
    assert differences(BLOCK, after) == [
        "from stable_scales import Scales",
        "self.scales = Scales(H)",
        "qs = self.scales.posterior_log_sigma(qs)",
        "ps = self.scales.prior_log_sigma(ps)",
        "return z, (kl_of_two(qm, pm, qs, ps) if self.scales.vanilla else self.scales.kl(qm, qs, pm, ps))",
        "ps = self.scales.prior_log_sigma(ps)",
    ]
    lines = [line.strip() for line in after.splitlines()]
    assert lines.index("self.scales = Scales(H)") == lines.index("super().__init__()") + 1
    # The conversion comes before the draw and before the temperature, which then adds to log sigma.
    assert lines.index("qs = self.scales.posterior_log_sigma(qs)") < lines.index("z = draw(qm, qs)")
    last = len(lines) - 1 - lines[::-1].index("ps = self.scales.prior_log_sigma(ps)")
    assert last < lines.index("ps = ps + np.log(t)")


VARIANTS = {  # what to replace in BLOCK and HELPERS, and lines that must be in the result
    "keywords in another order": (
        "kl_of_two(qm, pm, qs, ps)", "kl_of_two(s2=ps, s1=qs, m2=pm, m1=qm)",
        ["return z, (kl_of_two(s2=ps, s1=qs, m2=pm, m1=qm) if self.scales.vanilla else "
         "self.scales.kl(qm, qs, pm, ps))"],
    ),
    "star import": ("from helpers import draw, kl_of_two", "from helpers import *",
                    ["qs = self.scales.posterior_log_sigma(qs)"]),
    "renamed by import": ("from helpers import draw, kl_of_two", "from helpers import draw, kl_of_two as kl_of_two",
                          ["ps = self.scales.prior_log_sigma(ps)"]),
    "assigned": ("return z, kl_of_two(qm, pm, qs, ps)", "kl = kl_of_two(qm, pm, qs, ps)\n        return z, kl",
                 ["kl = kl_of_two(qm, pm, qs, ps) if self.scales.vanilla else self.scales.kl(qm, qs, pm, ps)"]),
    "summed": ("kl_of_two(qm, pm, qs, ps)", "kl_of_two(qm, pm, qs, ps).sum()",
               ["return z, (kl_of_two(qm, pm, qs, ps) if self.scales.vanilla else "
                "self.scales.kl(qm, qs, pm, ps)).sum()"]),
    "hyper-parameters as an attribute": ("self.zdim = H.zdim", "self.H = H\n        self.zdim = self.H.zdim",
                                         ["self.scales = Scales(H)"]),
    "torch.chunk of the prior": (
        "pm, ps, rest = feats[:, :self.zdim], feats[:, self.zdim:2*self.zdim], feats[:, 2 * self.zdim:]",
        "pm = feats[:, :self.zdim]\n        ps: torch.Tensor = feats[:, self.zdim:2*self.zdim].contiguous()",
        ["ps = self.scales.prior_log_sigma(ps)"],
    ),
    "an adjustment in place": ("ps = ps + np.log(t)", "ps += np.log(t)", ["ps = self.scales.prior_log_sigma(ps)"]),
}  # fmt: skip


@pytest.mark.parametrize("old, new, expected", VARIANTS.values(), ids=VARIANTS)
def test_ways_to_write_it(old, new, expected):
    assert BLOCK.count(old) == 1
    block = BLOCK.replace(old, new)
    after = rewritten(block)
    lines = [line.strip() for line in after.splitlines()]
    assert set(expected) <= set(lines), after
    compile(after, "block.py", "exec")


def test_a_kl_of_log_variances():
    helpers = HELPERS.replace("torch.exp(s1) ** 2", "torch.exp(s1)").replace("torch.exp(s2) ** 2", "torch.exp(s2)")
    helpers = helpers.replace("s2 - s1", "0.5 * (s2 - s1)").replace("torch.exp(s) + m", "torch.exp(0.5 * s) + m")
    sources = {"hps.py": HPS, "helpers.py": helpers, "block.py": BLOCK}
    after = block_of(sources)
    assert "qs = 2 * self.scales.posterior_log_sigma(qs / 2)" in after
    assert "self.scales.kl(qm, qs / 2, pm, ps / 2)" in after
    sources["block.py"] = BLOCK.replace("pm, qs, ps)", "pm, qs + 1, ps)")
    assert "self.scales.kl(qm, (qs + 1) / 2, pm, ps / 2)" in block_of(sources)


def test_a_kl_and_a_draw_that_disagree_on_what_they_take_are_refused():
    helpers = HELPERS.replace("torch.exp(s) + m", "torch.exp(0.5 * s) + m")
    sources = {"hps.py": HPS, "helpers.py": helpers, "block.py": BLOCK}
    with pytest.raises(CannotPatch, match="disagree on log sigma and log variance"):
        block_of(sources)


def test_two_kinds_of_kl_in_one_class_are_refused():
    of_variances = HELPERS[HELPERS.index("@") : HELPERS.index("def draw")].replace("kl_of_two", "kl_of_variances")
    of_variances = of_variances.replace(" ** 2 +", " +").replace("exp(s2) ** 2", "exp(s2)")
    of_variances = of_variances.replace("s2 - s1", "0.5 * (s2 - s1)")
    block = BLOCK.replace("kl_of_two\n\n", "kl_of_two, kl_of_variances\n\n")
    block = block.replace("return z,", "return kl_of_variances(qm, pm, qs, ps),")
    sources = {"hps.py": HPS, "helpers.py": HELPERS + of_variances, "block.py": block}
    with pytest.raises(CannotPatch, match="one KL of this class takes log sigmas, another takes log variances"):
        block_of(sources)


def test_a_kl_that_is_a_method_of_the_class_is_found():
    start, end = HELPERS.index("def kl"), HELPERS.index("def draw")
    helpers = HELPERS[: HELPERS.index("@")] + HELPERS[end:]
    method = "    @staticmethod\n" + textwrap.indent(HELPERS[start:end].rstrip(), "    ") + "\n\n"
    block = BLOCK.replace("import draw, kl_of_two", "import draw").replace("    def both", method + "    def both")
    block = block.replace("z, kl_of_two(", "z, self.kl_of_two(")
    sources = {"hps.py": HPS, "helpers.py": helpers, "block.py": block}
    after = block_of(sources)
    assert "self.kl_of_two(qm, pm, qs, ps) if self.scales.vanilla else self.scales.kl(qm, qs, pm, ps)" in after


def test_a_name_that_the_class_uses_already_is_left_to_it():
    after = rewritten(BLOCK.replace("self.zdim = H.zdim", "self.zdim = H.zdim\n        self.scales = [1, 2]"))
    assert "self.stable_scales = Scales(H)" in after and "qs = self.stable_scales.posterior_log_sigma(qs)" in after


def test_scales_are_made_after_the_call_of_super_wherever_it_stands():
    after = rewritten(BLOCK.replace("        super()", "        res = 2 * res\n        super()"))
    assert "super().__init__()\n        self.scales = Scales(H)\n" in after


def test_two_arguments_that_may_hold_the_hyper_parameters_are_refused():
    with pytest.raises(CannotPatch, match="no argument or attribute that holds the hyper-parameters"):
        rewritten(BLOCK.replace("H, res", "H, G").replace("net(H.width), net", "net(G.width), net"))


REFUSED = {
    "log scale straight into the call": ("pm, qs, ps)", "pm, qs, feats[:, 3:])", "feats[:, 3:]"),
    "log scale read by another function": ("z = draw(qm, qs)", "z = qm + F.elu(qs)", "also read by elu"),
    "log scale read by its method": ("z = draw(qm, qs)", "z = qm + qs.sigmoid()", "also read by sigmoid"),
    "log scale from an argument": ("z = draw(qm, qs)", "qs = acts\n        z = draw(qm, qs)", "not a local variable cut from a network's output, at most"),
    "both from one piece": ("kl_of_two(qm, pm, qs, ps)", "kl_of_two(qm, pm, ps, ps)", "same piece"),
    "prior cut in another way": (":2 * self.zdim]\n        if", ":-1]\n        if", "used as a whole, or cut"),
    "no hyper-parameters": ("H.zdim", "8", None),
    "a reversed KL": ("kl_of_two(qm, pm, qs, ps)", "kl_of_two(pm, qm, ps, qs)", "is the KL reversed?"),
    "draw of something else": ("draw(qm, qs)", "draw(qm, qs * 0.5)", "log scale of this draw"),
    "starred arguments": ("kl_of_two(qm, pm, qs, ps)", "kl_of_two(*both)", "arguments"),
}  # fmt: skip


@pytest.mark.parametrize("old, new, message", REFUSED.values(), ids=REFUSED)
def test_refusals_name_the_place_and_show_the_code(old, new, message):
    block = BLOCK.replace(old, new).replace("H.width", "8") if message is None else BLOCK.replace(old, new)
    assert block != BLOCK
    with pytest.raises(CannotPatch) as refusal:
        rewritten(block)
    (problem, *_) = refusal.value.problems
    assert problem.path == "block.py" and problem.line > 0 and problem.code and problem.by_hand
    assert (message or "hyper-parameters") in str(refusal.value)


def test_calls_outside_a_class_and_trees_without_a_kl_are_refused():
    with pytest.raises(CannotPatch, match="not in a class"):
        rewritten(BLOCK + "\n\ndef loss(a, b, c, d):\n    return kl_of_two(a, b, c, d).sum()\n")
    with pytest.raises(CannotPatch, match="no function here computes the KL"):
        block_of({"hps.py": HPS})


def test_windows_line_ends_and_tabs_stay():
    block = textwrap.dedent(BLOCK).replace("    ", "\t").replace("\n", "\r\n")
    sources = {"hps.py": HPS, "helpers.py": HELPERS, "block.py": block}
    after = block_of(sources).encode()
    assert b"\n" not in after.replace(b"\r\n", b"") and b"\r\n\t\tself.scales = Scales(H)\r\n" in after
