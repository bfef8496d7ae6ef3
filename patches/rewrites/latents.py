"""Puts the parameterized log sigmas, and the KL of stable_params, into the class that computes posterior and prior."""

import ast
from collections.abc import Iterator

from patches.code.names import Place, calls, functions, visible
from patches.code.source import Edit, Sources
from patches.problems import CannotPatch, Problem
from patches.rewrites.flags import glue_import
from patches.rewrites.gaussians import Draw, Kl, recognise, why_not
from patches.rewrites.latent_class import LatentClass, called_formula

_BY_HAND = (
    "give the class that computes posterior and prior a Scales object (stable_scales.py); replace each network output "
    "that means log sigma by scales.posterior_log_sigma(...) or scales.prior_log_sigma(...), and the KL, unless "
    "scales.vanilla, by scales.kl(loc, log_sigma, prior_loc, prior_log_sigma)"
)


def rewrite(sources: Sources) -> list[Edit]:
    """The edits of the classes whose KL now goes through Scales.

    Raises CannotPatch where no KL is recognised or its arguments cannot be followed to the outputs of networks.
    """
    recognised = {(path, name): formula for path, source in sources.items()
                  for name, function in functions(source).items() if (formula := recognise(function))}  # fmt: skip
    edits, problems = [], []
    for path in sources:
        try:
            edits += _edits(sources, path, recognised)
        except CannotPatch as error:
            problems += error.problems
    if problems or not edits:
        raise CannotPatch(*problems or _nothing_found(sources, recognised))
    return edits


def _edits(sources: Sources, path: str, recognised: dict[Place, Kl | Draw]) -> Iterator[Edit]:
    """The edits of a module with latent classes; none if it calls no KL."""
    source = sources[path]
    formulas = {name: recognised[place] for name, place in visible(sources, path).items() if place in recognised}
    if not formulas:
        return []
    classes = [LatentClass(source, statement, formulas) for statement in source.tree.body if isinstance(statement, ast.ClassDef)]
    classes = [each for each in classes if each.kls]
    replaced = {call for each in classes for _, call, _ in each.kls}
    for call in calls(source.tree):
        if isinstance(called_formula(call, formulas), Kl) and call not in replaced:
            raise CannotPatch(source.problem(call, "this KL is not in a class with a posterior and a prior", _BY_HAND))
    if not classes:
        return []
    edits = [edit for each in classes for edit in each.edits]
    return edits + [source.add_import(glue_import(sources, path, "Scales", "stable_scales"))]


def _nothing_found(sources: Sources, recognised: dict[Place, Kl | Draw]) -> list[Problem]:
    """What to say where nothing was rewritten: KLs that nobody calls, functions that are nearly a KL, or the whole tree."""
    found = [(*place, "this KL is not called by a class of the checkout")
             for place, formula in recognised.items() if isinstance(formula, Kl)]  # fmt: skip
    if not found:
        found = [(path, name, f"{name} {reason}") for path, source in sources.items()
                 for name, function in functions(source).items() if (reason := why_not(function))]  # fmt: skip
    if not found:
        return [Problem(".", 0, "no function here computes the KL of two normals", "", _BY_HAND)]
    return [sources[path].problem(functions(sources[path])[name], what, _BY_HAND) for path, name, what in found]
