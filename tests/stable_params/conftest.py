"""Fixtures that compare tensors with 50-digit references and print the worst points."""

import mpmath
import pytest
import torch


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


@pytest.fixture
def assert_within():
    """Checker of actual[i] against the mpf expected[i], allowing error allowed[i]; `points` label the failures.

    A finite expected value that the dtype cannot hold must come out as an infinity of its sign.
    """

    def check(points, actual: torch.Tensor, expected: list, allowed: list) -> None:
        assert len(points) == len(actual) == len(expected) == len(allowed) > 0
        largest = mpmath.mpf(torch.finfo(actual.dtype).max)
        rows = []
        for point, got, want, limit in zip(points, actual.tolist(), expected, allowed):
            if abs(want) > largest:
                excess = mpmath.mpf(0) if got == mpmath.sign(want) * mpmath.inf else mpmath.inf
            else:
                excess = abs(mpmath.mpf(got) - want) / limit
            rows.append((excess if excess == excess else mpmath.inf, point, got, mpmath.nstr(want, 12)))
        rows.sort(key=lambda row: row[0], reverse=True)
        lines = (f"{mpmath.nstr(row[0], 4)} x allowed at {row[1]}: got {row[2]!r}, want {row[3]}" for row in rows[:5])
        worst = "\n".join(lines)
        assert rows[0][0] <= 1, f"worst points ({actual.dtype}):\n{worst}"

    return check


@pytest.fixture
def ulp():
    """Spacing of the dtype's numbers around a magnitude, subnormal numbers included."""

    def spacing(value, dtype: torch.dtype) -> mpmath.mpf:
        info = torch.finfo(dtype)
        magnitude = max(abs(mpmath.mpf(value)), mpmath.mpf(info.tiny))
        return mpmath.ldexp(mpmath.mpf(info.eps), mpmath.frexp(magnitude)[1] - 1)

    return spacing
