"""Shares of failed runs."""

import pytest

from experiments.shared.failed_runs import wilson


def test_the_interval_is_wilsons():
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)  # R: prop.test(20, 20, correct = FALSE)
    assert wilson(1, 4) == pytest.approx((0.0456, 0.6994), abs=1e-4)
