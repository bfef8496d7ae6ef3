"""Works out what would change in a checkout, and what could not be matched."""

from patches.problems import CannotPatch, Problem
from patches.rewrites import counts, flags, latents
from patches.tree.changes import Change, glue_changes, vendor_changes
from patches.tree.checkout import Checkout

REWRITES = {  # each takes Sources and gives its edits
    "posterior, prior, draws and KL go through stable_params": latents.rewrite,
    "--sigma_param, --posterior_sigma_param, --prior_sigma_param and --prior_const1 are added": flags.rewrite,
    "the training loop counts skipped updates and NaN events": counts.rewrite,
}


def make_plan(checkout: Checkout, vendor: bool) -> tuple[list[Change], list[Problem]]:
    """Changes of files, new files last, and what stands against them; with `vendor` stable_params is copied too."""
    edits, descriptions, problems = {}, {}, []
    for description, rewrite in REWRITES.items():
        try:
            found = rewrite(checkout.sources)
        except CannotPatch as error:
            problems += error.problems
            continue
        for edit in found:
            edits.setdefault(edit.path, []).append(edit)
            descriptions.setdefault(edit.path, {})[description] = None
    changes = [Change(path, source.data, source.edited(edits[path]), "; ".join(descriptions[path]))
               for path, source in checkout.sources.items() if path in edits]
    if changes and not problems:
        folder = flags.glue_folder(checkout.sources)
        changes += glue_changes(folder) + (vendor_changes(checkout.root, folder) if vendor else [])
    return changes, list(dict.fromkeys(problems))
