"""KL, its gradients and the log density against the table of 50-digit references in tests/golden/kl_reference.json."""

import json
from pathlib import Path

import mpmath
import pytest
import torch
from mpmath import mpf

from stable_params import Normal, Scale

LARGEST = mpf(torch.finfo(torch.float32).max)
SMALLEST_NORMAL = mpf(torch.finfo(torch.float32).tiny)
UNIT = mpf(2) ** -24  # half an ULP relative to a float32 number
EXP_ULP = {"cpu": 0, "cuda": 2}  # of exp, from the rounded true value: CUDA documents 2 at most; the 4 ULP allow for a CPU's
REFERENCE = Path(__file__).resolve().parents[1] / "golden/kl_reference.json"


def normal(loc, log_sigma):
    return Normal(loc, Scale(log_sigma.exp(), log_sigma))


@pytest.fixture(scope="module")
def reference():
    """Columns of the table: name -> values; the first three are float32 inputs, the others 17-digit results as mpf."""
    table = json.loads(REFERENCE.read_text())
    return {name: [mpf(value) for value in column] for name, column in zip(table["columns"], zip(*table["rows"]))}


def kl_of(loc, log_sigma, prior_loc, prior_log_sigma):
    return normal(loc, log_sigma).kl(normal(prior_loc, prior_log_sigma))


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    return request.param


@pytest.fixture(scope="module", params=[kl_of, torch.compile(kl_of, fullgraph=True)], ids=["eager", "compiled"])
def computed(reference, request, device):
    """The same results in float32, computed on the device."""
    names = ("delta", "log_sigma", "prior_log_sigma")
    delta, l1, l2 = (torch.tensor([float(v) for v in reference[name]], device=device, requires_grad=True) for name in names)
    kl = request.param(delta, l1, torch.zeros_like(delta), l2)
    gradients = torch.autograd.grad(kl.sum(), (delta, l1, l2))
    log_prob = normal(torch.zeros_like(delta), l2).log_prob(delta)
    results = dict(zip(("d_loc", "d_log_sigma", "d_prior_log_sigma"), gradients))
    return {name: value.detach().cpu() for name, value in {"kl": kl, "log_prob": log_prob, **results}.items()}


def half_ulp_of_each_argument(reference, name):
    """What half an ULP, 2^-24 of its magnitude, in each argument does to the result: the sum of |derivative * x|."""
    columns = ("delta", "log_sigma", "prior_log_sigma", "d_loc", "d_log_sigma", "d_prior_log_sigma")
    for delta, l1, l2, d_loc, ratio, d_l2 in zip(*(reference[column] for column in columns)):
        x2 = abs(d_loc * delta)
        of_ratio = 2 * abs(ratio + 1) * (abs(l1) + abs(l2))
        yield UNIT * {
            "kl": x2 + abs(ratio * l1) + abs(d_l2 * l2),
            "d_loc": abs(d_loc) * (1 + 2 * abs(l2)),
            "d_log_sigma": of_ratio,
            "d_prior_log_sigma": of_ratio + 2 * x2 * (1 + abs(l2)),
            "log_prob": x2 + abs((x2 - 1) * l2),
        }[name]


def of_an_ulp_of_exp(reference, name):
    """What one ULP, at most 2^-23, in exp(-log sigma2) does to the result: x^2 and its derivatives have its square."""
    for delta, d_loc in zip(reference["delta"], reference["d_loc"]):
        x2 = abs(d_loc * delta)
        yield 2 * UNIT * {"kl": x2, "d_loc": 2 * abs(d_loc), "d_prior_log_sigma": 2 * x2, "log_prob": x2}.get(name, 0)


@pytest.mark.parametrize("name", ["kl", "d_loc", "d_log_sigma", "d_prior_log_sigma", "log_prob"])
def test_table_is_met_to_four_ulp_beside_half_an_ulp_of_each_argument(reference, computed, device, assert_within, ulp, name):
    points = list(zip(*(map(float, reference[column]) for column in ("delta", "log_sigma", "prior_log_sigma"))))
    others = zip(half_ulp_of_each_argument(reference, name), of_an_ulp_of_exp(reference, name), float64_errors(reference, name))
    allowed = [4 * ulp(want, torch.float32) + slack + EXP_ULP[device] * of_exp + least
               for want, (slack, of_exp, least) in zip(reference[name], others)]
    keep = [i for i in range(len(points)) if is_promised(reference, name, i)]
    assert len(keep) > 0.8 * len(points)
    actual = computed[name][keep]
    points, expected, allowed = ([column[i] for i in keep] for column in (points, reference[name], allowed))
    assert_within(points, actual, expected, allowed)


def float64_errors(reference, name):
    """What float64 leaves of expm1(x) - x: compiled for a CPU, 2^-53 of exp(x) near 1; nothing where the means decide."""
    of_the_ratio = name in ("kl", "d_log_sigma", "d_prior_log_sigma")
    return [mpf(2) ** -51 if of_the_ratio else 0] * len(reference["kl"])


def is_promised(reference, name, i):
    """Whether sigma2 is a normal number, or the means equal, and nothing overflows that the result is computed from."""
    delta, l2, d_loc = (reference[column][i] for column in ("delta", "prior_log_sigma", "d_loc"))
    on_its_way = {"kl": 2 * reference["kl"][i], "d_prior_log_sigma": d_loc * delta * mpmath.exp(l2)}.get(name, 0)
    overflows = abs(on_its_way) > LARGEST >= abs(reference[name][i])
    return not overflows and (delta == 0 or mpmath.exp(l2) >= SMALLEST_NORMAL)


def test_table_holds_what_its_generator_computes(reference):
    # Five rows over the table, anew: KL and log density in 50 digits from their definitions by integrals' closed forms.
    for i in range(7, len(reference["kl"]), len(reference["kl"]) // 5):
        delta, l1, l2 = (reference[name][i] for name in ("delta", "log_sigma", "prior_log_sigma"))
        variance, prior_variance = mpmath.exp(2 * l1), mpmath.exp(2 * l2)
        kl = (mpmath.log(prior_variance / variance) - 1 + (variance + delta**2) / prior_variance) / 2
        log_prob = -mpmath.log(2 * mpmath.pi * prior_variance) / 2 - delta**2 / prior_variance / 2
        assert mpmath.almosteq(kl, reference["kl"][i], 1e-16, 1e-40)
        assert mpmath.almosteq(log_prob, reference["log_prob"][i], 1e-16)


def test_kl_between_random_normals_is_accurate_to_four_ulp(device):
    # A million points where nothing is extreme, against float64, whose own error is 2^-29 of that of float32.
    generator = torch.Generator().manual_seed(3)
    loc, l1, l2 = torch.randn(3, 1_000_000, generator=generator).to(device)
    kl = normal(loc, l1).kl(normal(0, l2)).double()
    want = normal(loc.double(), l1.double()).kl(normal(0, l2.double()))
    x2, ratio = loc.double() ** 2 * torch.exp(-2 * l2.double()), torch.expm1(2 * (l1.double() - l2.double()))
    condition = (1 + 2 * EXP_ULP[device]) * x2 + (ratio * l1).abs() + ((ratio + x2) * l2).abs()
    spacing = 2.0 ** (torch.frexp(want)[1] - 24)
    worst = (((kl - want).abs() - 2.0**-24 * condition) / spacing).max().item()
    assert worst <= 4, f"{worst} ULP"
