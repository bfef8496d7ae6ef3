"""The KL and the draw of diagonal normals: the values that a function's values are compared with."""

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LOG_SCALES = {"log sigma": lambda x: x, "log variance": lambda x: x / 2}  # each with the way to log sigma
SCALES = {"sigma": math.log, "variance": lambda x: math.log(x) / 2}


@dataclass(frozen=True)
class Target:
    """`value` takes one number for each of `roles`, log sigmas for the scales, and one noise number if it is noisy."""

    what: str
    roles: tuple[str, ...]
    noisy: bool
    value: Callable[..., float]

    def at(self, point: Mapping[str, float], kind: str, noises: Sequence[float]) -> float:
        """The value where the scales of `point` are of this kind: "log sigma", "log variance", "sigma" or "variance"."""
        to_log_sigma = (LOG_SCALES | SCALES)[kind]
        return self.value(*(to_log_sigma(point[role]) if "scale" in role else point[role] for role in self.roles), *noises)

    def points(self, kind: str) -> Iterator[dict[str, float]]:
        """Numbers for the roles, first ordinary ones, then tiny and large scales, which show an epsilon or a bound."""
        generator = random.Random(0)
        for _ in range(4):
            yield {role: generator.uniform(0.3, 1.7) for role in self.roles}
        for shift in (-40, -15, -7, 3, 12) if kind in LOG_SCALES else ():
            factor = 2 if kind == "log variance" else 1
            yield {role: factor * (shift + generator.uniform(-1, 1)) if "scale" in role
                   else math.exp(shift) * generator.uniform(-2, 2) for role in self.roles}


def _kl(loc: float, log_sigma: float, prior_loc: float, prior_log_sigma: float) -> float:
    log_ratio = log_sigma - prior_log_sigma
    distance = (loc - prior_loc) * math.exp(-prior_log_sigma)
    return (math.expm1(2 * log_ratio) + distance * distance) / 2 - log_ratio


def _draw(loc: float, log_sigma: float, noise: float) -> float:
    return loc + math.exp(log_sigma) * noise


KL = Target("the KL of two normals", ("loc", "log_scale", "prior_loc", "prior_log_scale"), False, _kl)
DRAW = Target("a draw from a normal", ("loc", "log_scale"), True, _draw)


def is_well_paired(names: Mapping[str, str], order: Sequence[str]) -> bool:
    """Whether the locations and scales of a KL belong together by the beginnings and ends of their names.

    A KL's value does not change when its two locations change places, so the value alone does not tell them apart.
    `names` has the parameter of each role. Where the names do not decide, the first location in `order` belongs to the
    first scale. Of a pairing and the one with exchanged locations, exactly one is well paired.
    """
    locs, scales = (names["loc"], names["prior_loc"]), (names["log_scale"], names["prior_log_scale"])
    straight = _likeness(locs[0], scales[0]) + _likeness(locs[1], scales[1])
    crossed = _likeness(locs[0], scales[1]) + _likeness(locs[1], scales[0])
    if straight != crossed:
        return straight > crossed
    return (order.index(locs[0]) < order.index(locs[1])) == (order.index(scales[0]) < order.index(scales[1]))


def _likeness(one: str, other: str) -> int:
    """How many characters two names have in common at their beginnings and ends."""
    return len(os.path.commonprefix([one, other])) + len(os.path.commonprefix([one[::-1], other[::-1]]))
