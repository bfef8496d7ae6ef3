"""Puts the parameterized log sigmas, and the KL of stable_params, into the class that computes posterior and prior."""

import ast
from collections.abc import Iterator

from patches.code.names import calls, dotted, functions, imports, visible
from patches.code.source import Edit, Source, Sources
from patches.problems import CannotPatch, NotVdvae, Problem
from patches.rewrites.flags import glue_import
from patches.rewrites.gaussians import Kl, recognise, why_not
from patches.rewrites.latent_class import LatentClass, called_formula

_BY_HAND = (
    "give the class that computes posterior and prior a Scales object (stable_scales.py); replace each network output "
    "that means log sigma by scales.posterior_log_sigma(...) or scales.prior_log_sigma(...), and the KL, unless "
    "scales.vanilla, by scales.kl(loc, log_sigma, prior_loc, prior_log_sigma)"
)


def rewrite(sources: Sources) -> list[Edit]:
    """The edits of the classes whose KL now goes through Scales; raises CannotPatch where a KL cannot."""
    found, problems = latent_classes(sources)
    if not found and not problems:
        raise NotVdvae(*_obstacles(sources))
    problems += [problem for each in found for source in sources.values() for problem in _reads_elsewhere(source, each)]
    edits = [edit for each in found for edit in each.edits]
    try:
        edits += [each.source.add_import(glue_import(sources, each.source.path, "Scales", "stable_scales")) for each in found]
    except CannotPatch as error:
        problems += error.problems
    if problems:
        raise CannotPatch(*problems)
    return edits


def latent_classes(sources: Sources) -> tuple[list[LatentClass], list[Problem]]:
    """The classes whose KL can be changed, and a problem for each other place that calls a KL."""
    recognised = {(path, name): formula for path, source in sources.items()
                  for name, function in functions(source).items() if (formula := recognise(function))}  # fmt: skip
    found, problems = [], []
    for path, source in sources.items():
        formulas = {name: recognised[place] for name, place in visible(sources, path).items() if place in recognised}
        called = {call for call in calls(source.tree) if isinstance(called_formula(call, formulas), Kl)} if formulas else set()
        for statement in source.tree.body if formulas else ():
            if isinstance(statement, ast.ClassDef):
                try:
                    each = LatentClass(source, statement, formulas)
                    found += [each] if each.kls else []
                except CannotPatch as error:
                    problems += error.problems
                called -= set(ast.walk(statement))
        problems += [source.problem(call, "this KL is not in a class with a posterior and a prior", _BY_HAND) for call in called]
    return found, problems


def _reads_elsewhere(source: Source, found: LatentClass) -> Iterator[Problem]:
    """A problem for each call of the class's networks from outside, which gets an output without the parameterization."""
    names = tuple({f".{piece.root.removeprefix('self.')}" for piece in found.sides})
    for call in calls(source.tree):
        called = ast.unparse(call.func).removesuffix(".forward")
        owner = next((node for node in source.above(call) if isinstance(node, ast.ClassDef)), None)
        is_its_own = owner and any(isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node) == called
                                   for node in ast.walk(owner))  # fmt: skip
        if called.endswith(names) and owner is not found.owner and not is_its_own:
            what = f"this output has a log scale of {found.owner.name}, but outside that class its parameterization is not added"
            yield source.problem(call, what, _BY_HAND)


def _obstacles(sources: Sources) -> list[Problem]:
    """KLs that no class calls, functions that are nearly a KL, and KLs of a library; else, that there is none."""
    libraries = {name.split(".")[0] for source in sources.values() for name, _ in imports(source)}
    foreign = libraries & {"jax", "tensorflow"} if "torch" not in libraries else ()
    found = []
    for source in sources.values() if not foreign else ():
        for name, function in functions(source).items():
            if reason := "is a KL that no class calls" if isinstance(recognise(function), Kl) else why_not(function):
                found.append(source.problem(function, f"{name} {reason}", _BY_HAND))
        what = "this KL is that of a library, not a function of means and log sigmas"
        found += [source.problem(call, what, _BY_HAND) for call in calls(source.tree) if dotted(call.func).endswith("kl_divergence")]
    what = f"this is code for {min(foreign)}, and not for PyTorch" if foreign else "no function here computes the KL of two normals"
    return found or [Problem(".", 0, what, "", _BY_HAND)]
