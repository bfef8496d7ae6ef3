"""Counters by reason, and the figures of a train line."""

import json
import math
from dataclasses import asdict

import pytest

from vdvae.records.step_report import REASONS, StepReport
from vdvae.records.train_window import Counters, TrainWindow
from vdvae.records.typed import typed

FINE = {"elbo": 2.0, "distortion": 1.5, "rate": 0.5}
WORSE = {"elbo": 4.0, "distortion": 3.0, "rate": 1.0}
BROKEN = {"elbo": math.nan, "distortion": 1.0, "rate": math.nan}


def report(*losses, reasons=(), grad_norm=3.0, **more) -> StepReport:
    return StepReport(7, 1, 1e-3, list(losses) or [FINE], grad_norm, {reason: [0] for reason in reasons}, **more)


@pytest.mark.parametrize("reason, total", [("rate_nan", "total_rate_nans"), ("distortion_nan", "total_distortion_nans"),
                                           ("grad_nan", "total_grad_nans"), ("high_grad", "total_high_grads")])
def test_an_update_counts_under_its_reason(reason, total):
    counters = Counters()
    for each in (report(), report(reasons=[reason])):
        counters.add(each)
    expected = dict.fromkeys(Counters().totals(), 0) | {total: 1, "total_skipped_updates": 1}
    assert counters.totals() == expected | {"total_nan_updates": int(reason != "high_grad")}
    assert Counters.of_line({"step": 3, **counters.totals()}) == counters


def test_an_update_with_two_reasons_is_one_skipped_update():
    counters = Counters()
    counters.add(report(reasons=["rate_nan", "distortion_nan"]))
    assert (counters.skipped_updates, counters.nan_updates, counters.rate_nans, counters.distortion_nans) == (1, 1, 1, 1)


def test_a_train_line_has_means_over_updates_and_ranks_and_its_own_counts():
    window = TrainWindow()
    window.add(report(FINE, WORSE, grad_norm=5.0), seconds=0.5, waited=0.1)
    window.add(report(FINE, BROKEN, reasons=["rate_nan"], grad_norm=math.nan), seconds=1.5, waited=0.3)
    window.add(report(FINE, FINE, reasons=["high_grad"], grad_norm=900.0), seconds=1.0, waited=0.2)
    line = window.summary()
    assert math.isnan(line["elbo"]) and math.isnan(line["bits_per_dim"]) and line["elbo_filtered"] == pytest.approx(2.5)
    assert line["distortion"] == pytest.approx((2.25 + 1.25 + 1.5) / 3) and line["grad_norm"] == 900.0
    assert (line["iter_time"], line["data_time"], line["step"]) == (pytest.approx(1.0), pytest.approx(0.2), 7)
    assert [line[key] for key in ("rate_nans", "distortion_nans", "grad_nans", "high_grads", "skipped_updates")] == [1, 0, 0, 1, 2]
    assert "spectral_norms" not in line and window.reports == []


def test_the_gradient_norm_of_a_line_is_the_largest_finite_one():
    window = TrainWindow()
    for norms, largest in (((5.0, math.inf, 3.0), 5.0), ((math.inf, math.nan), 0.0)):
        for norm in norms:
            window.add(report(grad_norm=norm), seconds=1.0, waited=0.0)
        assert window.summary()["grad_norm"] == largest


def test_a_window_comes_back_from_json():
    window = TrainWindow()
    for reason in REASONS:
        window.add(report(FINE, WORSE, reasons=[reason], spectral_norms=2.5, stop=True), seconds=0.5, waited=0.1)
    again = typed(TrainWindow, json.loads(json.dumps(asdict(window))))
    assert vars(again) == vars(window) and again.summary() == window.summary()
