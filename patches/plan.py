"""Works out what would change in a checkout, and what could not be matched."""

from patches.code.names import import_graph, reached
from patches.code.source import Sources
from patches.problems import CannotPatch, CheckoutError, NotVdvae, Problem
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
    sources = model_and_training(checkout)
    edits, descriptions, problems = {}, {}, []
    for description, rewrite in REWRITES.items():
        try:
            found = rewrite(sources)
        except CannotPatch as error:
            problems += error.problems
            if isinstance(error, NotVdvae):
                break
            continue
        for edit in found:
            edits.setdefault(edit.path, []).append(edit)
            descriptions.setdefault(edit.path, {})[description] = None
    changes = [Change(path, source.data, source.edited(edits[path]), "; ".join(descriptions[path]))
               for path, source in sources.items() if path in edits]
    if changes and not problems:
        folder = flags.glue_folder(sources)
        changes += glue_changes(folder) + (vendor_changes(checkout.root, folder) if vendor else [])
    return changes, list(dict.fromkeys(problems))


def model_and_training(checkout: Checkout) -> Sources:
    """The files with latent classes, those that train with them, and all that these import; raises CheckoutError for bad ones."""
    classes, problems = latents.latent_classes(checkout.sources)
    graph = import_graph(checkout.sources, checkout.broken)
    known = {path: reached(graph, {path}) for path in graph}
    trains = {path for path, source in checkout.sources.items() if ".backward()" in source.text}
    shared = models = {each.source.path for each in classes}
    if parsers := {parser.source.path for parser in flags.parsers(checkout.sources)}:
        shared = models | (parsers & set().union(*(found for found in known.values() if models & found and trains & found)) or parsers)
    users = {path for path, found in known.items() if shared & found and trains & found}  # who trains a model, or takes the flags
    paths = reached(graph, shared | (users or trains)) if models else set(checkout.sources)
    for path, message in checkout.broken.items():
        if path in paths:
            raise CheckoutError(message)
        checkout.notes.append(f"{message.splitlines()[0]}; this file is left alone")
    others = [each for each in problems if each.path not in paths]
    checkout.notes.extend(f"{each.path}:{each.line}: {each.what}; this file is left alone" for each in others)
    return {path: source for path, source in checkout.sources.items() if path in paths}
