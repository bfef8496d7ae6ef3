"""What a KL and a draw of diagonal normals are: the values that a function is compared with."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

LOG_SCALES = {"log sigma": lambda x: x, "log variance": lambda x: x / 2}  # to log sigma
SCALES = {"sigma": math.log, "variance": lambda x: math.log(x) / 2}


@dataclass(frozen=True)
class Target:
    """Its value is base + term, from each normal's location and log sigma, and one noise number if it is noisy."""

    what: str
    roles: tuple[str, ...]
    noisy: bool
    parts: Callable[..., tuple[float, float]]

    def at(self, roles: Mapping[str, float], kind: str, noises: tuple[float, ...]) -> tuple[float, float]:
        """(base, term) where scales are given as `kind` says."""
        to_log_sigma = (LOG_SCALES | SCALES)[kind]
        given = {role: to_log_sigma(value) if "scale" in role else value for role, value in roles.items()}
        return self.parts(*(given[role] for role in self.roles), *noises)


def _kl(loc: float, log_sigma: float, prior_loc: float, prior_log_sigma: float) -> tuple[float, float]:
    log_ratio = log_sigma - prior_log_sigma
    unit = (loc - prior_loc) * math.exp(-prior_log_sigma)
    return 0.0, (math.expm1(2 * log_ratio) + unit * unit) / 2 - log_ratio


KL = Target("the KL of two normals", ("loc", "log_scale", "prior_loc", "prior_log_scale"), False, _kl)
STANDARD_KL = Target(
    "the KL from a standard normal", ("loc", "log_scale"), False, lambda loc, log_sigma: _kl(loc, log_sigma, 0.0, 0.0)
)
DRAW = Target(
    "a draw from a normal", ("loc", "log_scale"), True, lambda loc, log_sigma, noise: (loc, math.exp(log_sigma) * noise)
)
NOISELESS_DRAW = Target(
    "a draw from a normal without noise", ("loc", "log_scale"), False, lambda loc, log_sigma: (loc, math.exp(log_sigma))
)


def wide_points(target: Target, kind: str, uniform: Callable[[float, float], float]) -> Iterator[dict[str, float]]:
    """Values of the roles from tiny to large scales: what is added to a variance for safety shows there."""
    factor = 2 if kind == "log variance" else 1
    for shift in (-40, -15, -7, 3, 12):
        yield {
            role: factor * (shift + uniform(-1, 1)) if "scale" in role else math.exp(shift) * uniform(-2, 2)
            for role in target.roles
        }
