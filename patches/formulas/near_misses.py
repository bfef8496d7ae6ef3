"""Says what differs in a function that seems meant to be a KL or a draw but is not recognised."""

import ast
import re
from collections.abc import Iterator, Sequence

from patches.formulas.evaluation.subject import Subject
from patches.formulas.evaluation.values import Unknown
from patches.formulas.fitting import Fit, Pair, close, equal, fits, holds_widely
from patches.formulas.normals import DRAW, KL, LOG_SCALES, NOISELESS_DRAW, SCALES, STANDARD_KL, Target

KL_NAME = re.compile(r"(?<![a-z])kl|kl(?![a-z])|KL|Kl|kullback|divergence", re.ASCII)
DRAW_NAME = re.compile(r"draw|(?<!up)(?<!down)(?<!re)sample(?!r|s?_rate|_size)|reparam", re.IGNORECASE)
EXPONENTIALS = {"exp", "exp_", "expm1", "exp2"}
LOGARITHMS = {"log", "log_"}
NOISE = {"randn", "randn_like", "normal", "normal_", "Normal"}
OTHER_RANDOMNESS = {"uniform_", "rand", "rand_like", "multinomial", "Categorical", "argmax", "one_hot"}


def describe(subject: Subject) -> str | None:
    """One sentence, or None for a function that is not remotely a KL or a draw."""
    for sentence in _almost(subject):
        return sentence
    if not _looks_meant(subject):
        return None
    for sentence in _related(subject):
        return sentence
    return _unknown(subject) or f"{subject.name} computes something else than {KL.what} or {DRAW.what}"


def _almost(subject: Subject) -> Iterator[str]:
    """What is convincing whatever the function's name is."""
    for target in (KL, DRAW):
        for fit in fits(subject, target, LOG_SCALES, equal):
            yield _exact_at_ordinary_values(subject, target, fit)
        for fit in fits(subject, target, LOG_SCALES, _constant_factor):
            term = "its noise" if target.noisy else "it"
            yield f"{subject.name} is {target.what} but for a factor of {_factor(fit.pairs[0]):g} on {term}"
        for fit in fits(subject, target, LOG_SCALES, _constant_offset):
            yield f"{subject.name} is {target.what} but for an added {_offset(fit.pairs[0]):g}"


def _exact_at_ordinary_values(subject: Subject, target: Target, fit: Fit) -> str:
    notes = list(dict.fromkeys(map(str, fit.notes)))
    if notes:
        return f"{subject.name} is {target.what} but {' and '.join(notes)}"
    if not holds_widely(subject, target, fit):
        return f"{subject.name} is {target.what} at ordinary scales, but not at very small or large ones"
    return f"{subject.name} is {target.what} in more than one reading of its parameters"


def _related(subject: Subject) -> Iterator[str]:
    """Other formulas that a function with such a name may compute."""
    for target in (KL, DRAW):
        for fit in fits(subject, target, SCALES, equal):
            yield f"{subject.name} is {target.what} but takes the {fit.kind} itself, not its logarithm"
    for fit in fits(subject, STANDARD_KL, LOG_SCALES | SCALES, _constant_factor):
        yield f"{subject.name} is {STANDARD_KL.what}{_notes(fit)}: it has no prior's mean and scale"
    for fit in fits(subject, NOISELESS_DRAW, LOG_SCALES, equal):
        yield f"{subject.name} is {NOISELESS_DRAW.what}{_notes(fit)}"


def _notes(fit: Fit) -> str:
    return "".join(f", {note}" for note in dict.fromkeys(map(str, fit.notes)))


def _unknown(subject: Subject) -> str | None:
    """The first construct that is not known, with defaults left alone."""
    try:
        subject.at({name: 0.5 + 0.1 * i for i, name in enumerate(subject.required)}, seed=0)
    except Unknown as unknown:
        return f"{subject.name} {unknown}"
    return None


def _looks_meant(subject: Subject) -> bool:
    """Whether its name, its number of parameters and what it calls suggest a KL or a draw of normals."""
    names = {_name(node) for node in ast.walk(subject.tree)}
    like_kl = KL_NAME.search(subject.name) and names & (EXPONENTIALS | LOGARITHMS)
    like_draw = DRAW_NAME.search(subject.name) and names & (EXPONENTIALS | NOISE)
    parameters = len(subject.required) + len(subject.defaulted)
    return bool((like_kl or like_draw) and 2 <= parameters <= 6 and not names & OTHER_RANDOMNESS)


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _factor(pair: Pair) -> float:
    got, base, term = pair
    return (got - base) / term


def _offset(pair: Pair) -> float:
    got, base, term = pair
    return got - base - term


def _constant_factor(pairs: Sequence[Pair]) -> bool:
    return _factor(pairs[0]) != 0 and all(close(_factor(pair), _factor(pairs[0])) for pair in pairs)


def _constant_offset(pairs: Sequence[Pair]) -> bool:
    return all(abs(_offset(pair) - _offset(pairs[0])) < 1e-9 for pair in pairs)
