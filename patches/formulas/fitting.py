"""Tries which roles of a function's parameters make it compute a KL or a draw."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from patches.formulas.evaluation.subject import Outcome, Subject
from patches.formulas.evaluation.values import Note, Unknown
from patches.formulas.normals import Target, wide_points
from patches.formulas.pairing import well_paired

POINTS = 6
TOLERANCE = 1e-9

Pair = tuple[float, float, float]  # what the function returned, and the target's base and term
Relation = Callable[[Sequence[Pair]], bool]


@dataclass(frozen=True)
class Fit:
    roles: Mapping[str, str]  # parameter name -> role
    kind: str
    notes: tuple[Note, ...]
    pairs: tuple[Pair, ...]


def close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE)


def equal(pairs: Sequence[Pair]) -> bool:
    return all(close(got, base + term) for got, base, term in pairs)


def fits(subject: Subject, target: Target, kinds: Iterable[str], relation: Relation) -> list[Fit]:
    """All assignments of roles under which the relation holds at ordinary values; none if none can be tried.

    A KL does not change when the two locations change places: of such two there is only the well paired one.
    """
    found = []
    for names in _role_holders(subject, target):
        generator = random.Random(0)
        points = [{name: generator.uniform(0.3, 1.7) for name in names} for _ in range(POINTS)]
        try:
            outcomes = [subject.at(point, seed) for seed, point in enumerate(points)]
        except Unknown:
            continue
        if all(len(outcome.noises) == target.noisy for outcome in outcomes):
            found += _assignments(target, kinds, relation, points, outcomes)
    return found


def _role_holders(subject: Subject, target: Target) -> Iterator[tuple[str, ...]]:
    """The parameters that get values: those without a default, and as many others as there are roles left."""
    left = len(target.roles) - len(subject.required)
    for others in combinations(subject.defaulted, left) if left >= 0 else ():
        yield subject.required + others


def _assignments(
    target: Target, kinds: Iterable[str], relation: Relation, points: list[dict[str, float]], outcomes: list[Outcome]
) -> Iterator[Fit]:
    for kind in kinds:
        for names in permutations(points[0]):
            roles = dict(zip(target.roles, names))
            if "prior_loc" in roles and not well_paired(roles, list(points[0])):
                continue
            pairs = []
            for point, outcome in zip(points, outcomes):
                values = {role: point[name] for role, name in roles.items()}
                pairs.append((outcome.value, *target.at(values, kind, outcome.noises)))
            if relation(pairs):
                by_name = {name: role for role, name in roles.items()}
                yield Fit({name: by_name[name] for name in points[0]}, kind, outcomes[0].notes, tuple(pairs))


def holds_widely(subject: Subject, target: Target, fit: Fit) -> bool:
    """Whether the fit is exact at tiny and large scales as well."""
    for seed, values in enumerate(wide_points(target, fit.kind, random.Random(1).uniform)):
        outcome = subject.at({name: values[role] for name, role in fit.roles.items()}, seed)
        if not equal([(outcome.value, *target.at(values, fit.kind, outcome.noises))]):
            return False
    return True
