"""Recognises the KL of two diagonal normals, and the draw from one, by what a function computes."""

from dataclasses import dataclass

import libcst as cst

from patches.formulas.evaluation.subject import Subject, read
from patches.formulas.fitting import Fit, equal, fits, holds_widely
from patches.formulas.near_misses import describe
from patches.formulas.normals import DRAW, KL, LOG_SCALES, Target


@dataclass(frozen=True)
class Kl:
    """An elementwise KL. `roles` has four parameters, each loc, log_scale, prior_loc or prior_log_scale."""

    roles: dict[str, str]
    variance: bool  # True: the log scales are log variances; False: log sigmas


@dataclass(frozen=True)
class Draw:
    """sigma * noise + loc. `roles` has two parameters, loc and log_scale."""

    roles: dict[str, str]
    variance: bool


def recognise(function: cst.FunctionDef) -> Kl | Draw | None:
    """What it computes if exactly one assignment of roles explains it, other parameters at their defaults; else None.

    A KL that stops a gradient is none: it would be replaced by one that does not. A draw that does is still a draw.
    """
    subject = read(function)
    if subject is None:
        return None
    if (fit := _only_fit(subject, KL)) and not fit.notes:
        return Kl(dict(fit.roles), fit.kind == "log variance")
    if (fit := _only_fit(subject, DRAW)) and all(note.gradient for note in fit.notes):
        return Draw(dict(fit.roles), fit.kind == "log variance")
    return None


def near_miss(function: cst.FunctionDef) -> str | None:
    """What keeps a function that seems meant to be a KL or a draw from being recognised, in one sentence; else None.

    Lines in it count from the line of the def, which is 1.
    """
    subject = read(function)
    return None if subject is None or recognise(function) else describe(subject)


def _only_fit(subject: Subject, target: Target) -> Fit | None:
    found = fits(subject, target, LOG_SCALES, equal)
    return found[0] if len(found) == 1 and holds_widely(subject, target, found[0]) else None
