"""Puts the parameterized log sigmas, and the KL of stable_params, into the class that computes posterior and prior."""

import libcst as cst

from patches.formulas.recognise import Draw, Kl, near_miss, recognise
from patches.problems import CannotPatch, Problem, Sources
from patches.rewrites.flags import glue_import
from patches.rewrites.latent_class import ClassEdits, called_formula, edits_of_class
from patches.syntax import edit
from patches.syntax.names import Place, calls, functions, visible

_BY_HAND = (
    "give the class that computes posterior and prior a Scales object (stable_scales.py); replace each network output "
    "that means log sigma by scales.posterior_log_sigma(...) or scales.prior_log_sigma(...), and the KL, unless "
    "scales.vanilla, by scales.kl(loc, log_sigma, prior_loc, prior_log_sigma)"
)


def rewrite(sources: Sources) -> dict[str, cst.Module]:
    """The modules with a class whose KL now goes through Scales.

    Raises CannotPatch where no KL is recognised or its arguments cannot be followed to the outputs of networks.
    """
    recognised = {(path, name): formula for path, module in sources.items()
                  for name, function in functions(module).items() if (formula := recognise(function))}  # fmt: skip
    changed, problems = {}, []
    for path in sources:
        try:
            module = _rewritten(sources, path, recognised)
        except CannotPatch as error:
            problems += error.problems
        else:
            changed |= {path: module} if module is not None else {}
    if problems or not changed:
        raise CannotPatch(*problems or _nothing_found(sources, recognised))
    return changed


def _rewritten(sources: Sources, path: str, recognised: dict[Place, Kl | Draw]) -> cst.Module | None:
    """The module with all its latent classes rewritten; None if it calls no KL."""
    module = sources[path]
    formulas = {name: recognised[place] for name, place in visible(sources, path).items() if place in recognised}
    if not formulas:
        return None
    edits = ClassEdits()
    for statement in module.body:
        if isinstance(statement, cst.ClassDef):
            edits_of_class(path, module, statement, formulas, edits)
    for call in calls(module):
        if isinstance(called_formula(call, formulas), Kl) and call not in edits.replaced:
            raise CannotPatch(_problem(path, module, call, "this KL is not in a class with a posterior and a prior"))
    if not edits.replaced:
        return None
    return edit.add_import(edits.apply(module), glue_import(sources, path, "Scales", "stable_scales"))


def _nothing_found(sources: Sources, recognised: dict[Place, Kl | Draw]) -> list[Problem]:
    """What to say where nothing was rewritten: KLs that nobody calls, functions that are nearly a KL, or the whole tree."""
    found = [(*place, "this KL is not called by a class of the checkout")
             for place, formula in recognised.items() if isinstance(formula, Kl)]  # fmt: skip
    if not found:
        found = [(path, name, reason) for path, module in sources.items()
                 for name, function in functions(module).items() if (reason := near_miss(function))]  # fmt: skip
    if not found:
        return [Problem(".", 0, "no function here computes the KL of two normals", "", _BY_HAND)]
    return [_problem(path, sources[path], functions(sources[path])[name], what) for path, name, what in found]


def _problem(path: str, module: cst.Module, node: cst.CSTNode, what: str) -> Problem:
    return Problem(path, edit.line_of(module, node), what, edit.code_of(module, node), _BY_HAND)
