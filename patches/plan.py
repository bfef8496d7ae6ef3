"""Runs the rewrites on a checkout and gathers what they would change and what they could not match."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import libcst as cst

from patches.tree.change import Change
from patches.tree.checkout import Checkout
from patches.rewrites import counts, flags, latents
from patches.tree.source_file import syntax_error
from patches.sources import CannotPatch, Problem, Sources
from patches.tree.splice import spliced
from patches.tree.vendor import glue_changes, vendor_changes

Rewrite = Callable[[Sources], dict[str, cst.Module]]
REWRITES: tuple[Rewrite, ...] = (latents.rewrite, flags.rewrite, counts.rewrite)
_DESCRIPTIONS = {
    "latents": "posterior, prior, draws and KL go through stable_params",
    "flags": "--sigma_param, --posterior_sigma_param, --prior_sigma_param and --prior_const1 are added",
    "counts": "the training loop counts skipped updates and NaN events",
}


@dataclass(frozen=True)
class Plan:
    """`modules` are those that changed, `reasons` says by path what was done; with problems nothing is written."""

    modules: dict[str, cst.Module]
    reasons: dict[str, tuple[str, ...]]
    problems: tuple[Problem, ...]


def plan(sources: Sources, rewrites: Sequence[Rewrite] = REWRITES) -> Plan:
    """Each rewrite works on what the one before made of the sources, and runs even if another could not."""
    current, reasons, problems = dict(sources), {}, []
    for rewrite in rewrites:
        try:
            changed = rewrite(current)
        except CannotPatch as error:
            problems += error.problems
            continue
        for path in changed:
            reasons.setdefault(path, []).append(_describe(rewrite))
        current |= changed
    modules = {path: module for path, module in current.items() if module.bytes != sources[path].bytes}
    return Plan(modules, {path: tuple(reasons[path]) for path in modules}, tuple(dict.fromkeys(problems)))


def _describe(rewrite: Rewrite) -> str:
    name = rewrite.__module__.rpartition(".")[2]
    return _DESCRIPTIONS.get(name, f"{name}.{rewrite.__name__}")


def to_changes(checkout: Checkout, plan: Plan) -> tuple[list[Change], list[Problem]]:
    """Changed modules as bytes; one that would not be Python, or would lose a byte of the user's, is a problem."""
    changes, problems = [], []
    for path, module in plan.modules.items():
        before, problem = checkout.originals[path], _not_python(path, module)
        after = spliced(before, checkout.sources[path].bytes, module.bytes) if problem is None else None
        if after is not None:
            changes.append(Change(path, before, after, "; ".join(plan.reasons[path])))
        else:
            what = "form feeds or lone carriage returns stand where it would change"
            problems.append(problem or Problem(path, 0, what, "", "replace these characters by line feeds"))
    return changes, problems


def _not_python(path: str, module: cst.Module) -> Problem | None:
    error = syntax_error(module.bytes)
    if error is None:
        return None
    line = error.lineno or 1
    return Problem(path, line, f"would not be Python any more: {error.msg}", module.code.splitlines()[line - 1],
                   "this is an error of the plugin: please report it with the file")


def new_files(checkout: Checkout, folder: str, vendor: bool) -> list[Change]:
    """The glue in `folder` and, with `vendor`, stable_params; raises CheckoutError if the latter is there already."""
    return glue_changes(folder) + (vendor_changes(checkout.root, folder) if vendor else [])
