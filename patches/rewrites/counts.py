"""Makes the training loop count skipped updates and NaN events by reason, and write them to events.jsonl."""

from collections.abc import Iterator

from patches.code.names import Place
from patches.code.source import Edit, Source, Sources
from patches.problems import CannotPatch, Problem
from patches.rewrites.flags import glue_import
from patches.rewrites.train_loop import BY_HAND, TrainLoop, step_functions, train_loops

GLUE, CLASS = "update_log", "UpdateLog"
_NAMES = ("updates", "update_counts", "counted_updates")


def rewrite(sources: Sources) -> list[Edit]:
    """The edits of the training loops, if there are any; raises CannotPatch if an update or its loop is not as in the original."""
    steps, problems = step_functions(sources)
    edits = []
    for path in sources:
        try:
            edits += _in_module(sources, path, steps)
        except CannotPatch as error:
            problems += error.problems
    problems += [] if edits or problems else _nothing_found(sources, steps)
    if problems:
        raise CannotPatch(*problems)
    return edits


def _in_module(sources: Sources, path: str, steps: list[Place]) -> list[Edit]:
    source, loops = sources[path], train_loops(sources, path, steps)
    if not loops:
        return []
    if not any("save_dir" in each.text for each in sources.values()):
        what = "no hyper-parameter is called save_dir, the folder that events.jsonl is written to"
        raise CannotPatch(Problem(path, 0, what, "", BY_HAND))
    edits = [edit for loop in loops for edit in _count(source, loop)]
    first = min(source.tree.body.index([loop, *source.above(loop)][-2]) for each in loops for _, loop in each.updates)
    return [source.add_import(glue_import(sources, path, CLASS, GLUE), first), *edits]


def _count(source: Source, loop: TrainLoop) -> Iterator[Edit]:
    """The three lines in one loop; a loop behind the first continues from the same events.jsonl."""
    name = next(name for name in _NAMES if name not in loop.names)
    for line, outer in loop.updates:
        yield source.before(outer, f"{name} = {CLASS}({loop.hyperparameters})")
        yield source.after(line, f"{name}.count({loop.step}, {source.code(line.targets[0])})")
    for kind in loop.logs:
        yield source.replace(kind, f"{source.code(kind)}, **{name}.totals()")


def _nothing_found(sources: Sources, steps: list[Place]) -> list[Problem]:
    """What to say where no loop was found; nothing for a checkout that trains nothing."""
    if steps:
        (path, name), what = steps[0], "makes an update, but no loop calls it and logs type='train_loss'"
        return [Problem(path, 0, f"{name} {what}", "", BY_HAND)]
    trains = [path for path, source in sources.items() if ".backward()" in source.text]
    what = "this file trains, but no `if` on the gradient's norm or on NaN decides about an optimizer's step"
    return [Problem(path, 0, what, "", BY_HAND) for path in trains[:1]]
