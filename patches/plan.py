"""Works out what would change in a checkout, and what could not be matched."""

from dataclasses import dataclass

from patches.problems import CannotPatch, Change, Problem, Sources
from patches.rewrites import counts, flags, latents
from patches.tree.checkout import Checkout
from patches.tree.new_files import glue_changes, vendor_changes
from patches.tree.source_file import syntax_error

REWRITES = {  # each takes Sources and gives the modules that it changed
    "posterior, prior, draws and KL go through stable_params": latents.rewrite,
    "--sigma_param, --posterior_sigma_param, --prior_sigma_param and --prior_const1 are added": flags.rewrite,
    "the training loop counts skipped updates and NaN events": counts.rewrite,
}


@dataclass(frozen=True)
class Plan:
    """The changes of files, new files last; nothing may be written while there are problems."""

    changes: list[Change]
    problems: list[Problem]


def make_plan(checkout: Checkout, vendor: bool) -> Plan:
    """Changes and new files for a checkout; with `vendor` a copy of stable_params is among them."""
    changes, problems = changed_modules(checkout)
    if changes:
        try:
            folder = flags.glue_folder(checkout.sources)
        except CannotPatch as error:
            problems += error.problems
        else:
            changes += glue_changes(folder) + (vendor_changes(checkout.root, folder) if vendor else [])
    return Plan(changes, list(dict.fromkeys(problems)))


def changed_modules(checkout: Checkout) -> tuple[list[Change], list[Problem]]:
    """Runs each rewrite on the result of the one before; a rewrite that cannot match does not stop the others."""
    current, descriptions, problems = dict(checkout.sources), {}, []
    for description, rewrite in REWRITES.items():
        try:
            changed = rewrite(current)
        except CannotPatch as error:
            problems += error.problems
            continue
        current |= changed
        for path in changed:
            descriptions.setdefault(path, []).append(description)
    changes = [Change(path, checkout.originals[path], current[path].bytes, "; ".join(descriptions[path]))
               for path in checkout.sources if path in descriptions]
    broken = [problem for change in changes if (problem := _damage(checkout, change, current))]
    return [change for change in changes if change.path not in {problem.path for problem in broken}], problems + broken


def _damage(checkout: Checkout, change: Change, current: Sources) -> Problem | None:
    """A problem if the changed file is not Python, or if its syntax tree does not print every byte of the original."""
    if checkout.sources[change.path].bytes != change.before:
        what = "it has form feeds, or blanks after its last line, which would be lost"
        return Problem(change.path, 0, what, "", "remove these characters")
    error = syntax_error(change.after)
    if error is None:
        return None
    line = error.lineno or 1
    return Problem(change.path, line, f"would not be Python any more: {error.msg}",
                   current[change.path].code.splitlines()[line - 1],
                   "this is an error of the plugin: please report it with the file")
