"""Makes the training loop count skipped updates and NaN events by reason, and write them to events.jsonl."""

import libcst as cst

from patches.problems import CannotPatch, Problem, Sources
from patches.rewrites.flags import glue_import
from patches.rewrites.step_function import BY_HAND, step_functions
from patches.rewrites.train_loop import TrainLoop, train_loops
from patches.syntax.edit import add_import, insert_after, insert_before, replace
from patches.syntax.names import Place

GLUE, CLASS = "update_log", "UpdateLog"
_NAMES = ("updates", "update_counts", "counted_updates")


def rewrite(sources: Sources) -> dict[str, cst.Module]:
    """The modules with a training loop, which now counts; {} if the checkout trains nothing.

    Raises CannotPatch if an update is made, but its figures or its loop are not those of the original code.
    """
    steps, problems = step_functions(sources)
    changed = {}
    for path in sources:
        try:
            changed |= _rewrite_module(sources, path, steps)
        except CannotPatch as error:
            problems += error.problems
    problems += [] if changed or problems else _nothing_found(sources, steps)
    if problems:
        raise CannotPatch(*problems)
    return changed


def _rewrite_module(sources: Sources, path: str, steps: list[Place]) -> dict[str, cst.Module]:
    loops = train_loops(sources, path, steps)
    if not loops:
        return {}
    if not any("save_dir" in module.code for module in sources.values()):
        what = "no hyper-parameter is called save_dir, the folder that events.jsonl is written to"
        raise CannotPatch(Problem(path, 0, what, "", BY_HAND))
    statement = glue_import(sources, path, CLASS, GLUE)
    module = sources[path]
    for loop in loops:
        module = _count(module, loop)
    first = next(each for each in module.body if f"{CLASS}(" in module.code_for_node(each))
    return {path: add_import(module, statement, before=first)}


def _count(module: cst.Module, loop: TrainLoop) -> cst.Module:
    """The module with the three lines in one loop; a loop behind the first continues from the same events.jsonl."""
    name = next(name for name in _NAMES if name not in loop.names)
    outermost = {id(update.loop): update.loop for update in loop.updates}
    for outer in outermost.values():
        module = insert_before(module, outer, f"{name} = {CLASS}({loop.hyperparameters})")
    for update in loop.updates:
        module = insert_after(module, update.line, f"{name}.count({loop.step}, {update.figures})")
    for call in loop.log_calls:
        module = replace(module, call, _with_totals(call, f"{name}.totals()"))
    return module


def _with_totals(call: cst.Call, totals: str) -> cst.Call:
    """The log call with `**totals` right behind its argument `type`, so that the layout of the others stays."""
    at = next(index for index, each in enumerate(call.args) if each.keyword and each.keyword.value == "type")
    kind = call.args[at]
    added = cst.Arg(cst.parse_expression(totals), star="**", comma=kind.comma, whitespace_after_arg=kind.whitespace_after_arg)
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    kind = kind.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*call.args[:at], kind, added, *call.args[at + 1:]])


def _nothing_found(sources: Sources, steps: list[Place]) -> list[Problem]:
    """What to say where no loop was found; nothing for a checkout that trains nothing."""
    if steps:
        (path, name), what = steps[0], "makes an update, but no loop calls it and logs type='train_loss'"
        return [Problem(path, 0, f"{name} {what}", "", BY_HAND)]
    trains = [path for path, module in sources.items() if ".backward()" in module.code]
    what = "this file trains, but no `if` on the gradient's norm or on NaN decides about an optimizer's step"
    return [Problem(path, 0, what, "", BY_HAND) for path in trains[:1]]
