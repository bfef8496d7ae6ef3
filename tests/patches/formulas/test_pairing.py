"""Locations of a KL are told apart by their names, then by their order."""

import libcst as cst
import pytest
from patches.formulas.formula import recognise


@pytest.mark.parametrize(
    "signature, order",
    [
        ("mean, prior_mean, log_std, prior_log_std", "mean log_std prior_mean prior_log_std"),
        ("prior_mean, mean, log_std, prior_log_std", "mean log_std prior_mean prior_log_std"),
        ("mu2, mu1, ls1, ls2", "mu1 ls1 mu2 ls2"),
        ("mu_p, mu_q, ls_q, ls_p", "mu_q ls_q mu_p ls_p"),
        ("m, pm, l, pl", "m l pm pl"),
        ("pm, m, l, pl", "m l pm pl"),
        ("x, y, z, w", "x z y w"),
    ],
)
def test_locations_are_told_apart_by_names_then_by_order(signature, order):
    m1, s1, m2, s2 = order.split()
    body = f"{s2} - {s1} - 0.5 + 0.5 * ((2 * {s1}).exp() + ({m1} - {m2}) ** 2) * (-2 * {s2}).exp()"
    found = recognise(cst.parse_module(f"def kl({signature}): return {body}\n").body[0])
    assert found.roles == {m1: "loc", s1: "log_scale", m2: "prior_loc", s2: "prior_log_scale"}
