"""Recognises the KL of two diagonal normals, and the draw from one, by what a function computes."""

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import libcst as cst

from patches.formulas.normals import DRAW, KL, LOG_SCALES, SCALES, Target, is_well_paired
from patches.formulas.subject import Subject, last_name, read
from patches.formulas.values import Unknown

KL_NAME = re.compile(r"(?<![a-z])kl|kl(?![a-z])|KL|Kl|kullback|divergence", re.ASCII)
DRAW_NAME = re.compile(r"draw|(?<!up)(?<!down)(?<!re)sample(?!r|s?_rate|_size)|reparam", re.IGNORECASE)
EXPONENTIALS, LOGARITHMS = {"exp", "exp_", "expm1"}, {"log", "log_"}
NOISE = {"randn", "randn_like", "normal", "normal_", "Normal"}
OTHER_RANDOMNESS = {"uniform_", "rand", "rand_like", "multinomial", "Categorical", "argmax", "one_hot"}


@dataclass(frozen=True)
class Kl:
    """A KL per element. `roles` gives each of four parameters a role: loc, log_scale, prior_loc, prior_log_scale."""

    roles: dict[str, str]
    variance: bool  # whether the log scales are log variances; else they are log sigmas


@dataclass(frozen=True)
class Draw:
    """sigma * noise + loc. `roles` gives each of two parameters a role: loc, log_scale."""

    roles: dict[str, str]
    variance: bool


def recognise(function: cst.FunctionDef) -> Kl | Draw | None:
    """The KL or the draw that the function computes with its other parameters at their defaults; None for neither."""
    subject = read(function)
    for target, kind in ((KL, Kl), (DRAW, Draw)) if subject else ():
        try:
            found = _fit(subject, target, LOG_SCALES)
        except Unknown:
            return None
        if found:
            return kind(found[0], found[1] == "log variance")
    return None


def near_miss(function: cst.FunctionDef) -> str | None:
    """One sentence on why a function that seems meant to be a KL or a draw is not recognised; None for all others.

    The lines in it count from the line of the def, which is 1.
    """
    subject = read(function)
    if subject is None or not _seems_meant(subject) or recognise(function):
        return None
    try:
        for target in (KL, DRAW):
            if found := _fit(subject, target, SCALES):
                return f"{subject.name} is {target.what} but takes the {found[1]} itself, not its logarithm"
        subject.at({name: 0.5 + 0.1 * index for index, name in enumerate(subject.required)}, seed=0)
    except Unknown as unknown:
        return f"{subject.name} {unknown}"
    return f"{subject.name} computes something else than {KL.what} or {DRAW.what}"


def _fit(subject: Subject, target: Target, kinds: Iterable[str]) -> tuple[dict[str, str], str] | None:
    """The roles of the parameters, and the kind of scales, with which the function computes the target."""
    if len(subject.required) != len(target.roles):
        return None
    for kind in kinds:
        for roles in permutations(target.roles):
            names = dict(zip(roles, subject.required))
            if (target is DRAW or is_well_paired(names, subject.required)) and _matches(subject, target, kind, names):
                return dict(zip(subject.required, roles)), kind
    return None


def _matches(subject: Subject, target: Target, kind: str, names: dict[str, str]) -> bool:
    for seed, point in enumerate(target.points(kind)):
        value, noises = subject.at({names[role]: number for role, number in point.items()}, seed)
        if len(noises) != target.noisy or not math.isclose(value, target.at(point, kind, noises), rel_tol=1e-9):
            return False
    return True


def _seems_meant(subject: Subject) -> bool:
    """Whether the function's name, its number of parameters and its calls suggest a KL or a draw of normals."""
    names = {last_name(node) for node in ast.walk(subject.tree)}
    like_kl = KL_NAME.search(subject.name) and names & (EXPONENTIALS | LOGARITHMS)
    like_draw = DRAW_NAME.search(subject.name) and names & (EXPONENTIALS | NOISE)
    parameters = len(subject.tree.args.args) + len(subject.tree.args.kwonlyargs)
    return bool((like_kl or like_draw) and 2 <= parameters <= 6 and not names & OTHER_RANDOMNESS)
