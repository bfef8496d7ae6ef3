"""Writes KL and log densities in 17 digits, computed with 50: python tests/golden/make_kl_reference.py"""

import itertools
import json
import struct
from pathlib import Path

import mpmath
from mpmath import mpf

LOG_SIGMAS = [-120, -104, -88, -52, -17.5, -1.25, -0.3, 0, 0.1, 0.7, 2.5, 22, 44.5, 88, 120]
DISTANCES = [0, 1e-30, 1e-20, 1e-10, 1e-3, 0.5, 1, 30, 1e10, 1e20, 1e30]
DIFFERENCES = [1e-12, 3e-11, 1e-9, 2e-8, 1e-6, 1e-4, 1e-3, 0.02, 0.1, 0.3, 0.5, 0.57, 0.58, 0.72, 1, 3, 9, 20]
DIFFERENCES += [44.3, 44.7]


def float32(value: float) -> float:
    """The nearest float32, so that an input means the same number in every dtype of the tests."""
    return struct.unpack("f", struct.pack("f", value))[0]


def points() -> list[tuple[float, float, float]]:
    """(loc1 - loc2, log sigma1, log sigma2): the grid, then small log-sigma differences of both signs."""
    grid = itertools.product(DISTANCES, LOG_SIGMAS, LOG_SIGMAS)
    signed = [sign * difference for difference in DIFFERENCES for sign in (-1, 1)]
    near = [(distance, difference, 0.0) for distance in (0, 1e-10, 1e-3) for difference in signed]
    return [tuple(map(float32, point)) for point in (*grid, *near)]


def row(delta: float, log_sigma: float, prior_log_sigma: float) -> list:
    """[inputs, KL, its derivative by loc1, log sigma1 and log sigma2, log density of loc1 under the second normal]."""
    d, l1, l2 = mpf(delta), mpf(log_sigma), mpf(prior_log_sigma)
    ratio, x = mpmath.expm1(2 * (l1 - l2)), d * mpmath.exp(-l2)
    kl = ratio / 2 - (l1 - l2) + x**2 / 2
    log_prob = -(x**2) / 2 - l2 - mpmath.log(2 * mpmath.pi) / 2
    values = (kl, x * mpmath.exp(-l2), ratio, -ratio - x**2, log_prob)
    return [delta, log_sigma, prior_log_sigma, *(mpmath.nstr(value, 17) for value in values)]


def main() -> None:
    """Writes the table beside this program."""
    columns = ["delta", "log_sigma", "prior_log_sigma", "kl", "d_loc", "d_log_sigma", "d_prior_log_sigma", "log_prob"]
    with mpmath.workdps(50):
        rows = [row(*point) for point in points()]
    lines = ",\n".join(json.dumps(entry) for entry in rows)
    text = f'{{"columns": {json.dumps(columns)},\n"rows": [\n{lines}\n]}}\n'
    Path(__file__).with_name("kl_reference.json").write_text(text)


if __name__ == "__main__":
    main()
