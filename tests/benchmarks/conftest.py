"""The half-precision sweeps, run once for all tests."""

import pytest

from benchmarks.accuracy.contract import half_rows


@pytest.fixture(scope="session")
def swept_halves():
    """Rows of the full float16 and bfloat16 sweeps, by dtype and flag."""
    return half_rows()
