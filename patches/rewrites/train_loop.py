"""Recognises the function that makes one update, and the loop that makes the updates and logs them."""

import ast
from typing import NamedTuple

from patches.code.names import Place, calls, dotted, functions, visible
from patches.code.source import Source, Sources
from patches.problems import CannotPatch, Problem

KEYS = ("distortion_nans", "rate_nans", "skipped_updates", "grad_norm")
BY_HAND = (
    "before the loop, write updates = UpdateLog(H), with UpdateLog from update_log.py and H the hyper-parameters; "
    "after each update, updates.count(step, dict(skipped_updates=..., rate_nans=..., distortion_nans=..., "
    "grad_norm=...)); and add **updates.totals() to the calls that log type='train_loss'"
)
HYPERPARAMETERS = (  # those of the original that a training loop may read
    "num_epochs n_batch iters_per_print iters_per_save iters_per_ckpt iters_per_images epochs_per_eval save_dir desc ema_rate"
).split()  # fmt: skip


class TrainLoop(NamedTuple):
    """The loops of one function that make updates."""

    updates: list[tuple[ast.Assign, ast.stmt]]  # what assigns an update's figures, and the outermost loop around it
    hyperparameters: str
    step: str  # the code of the update's number
    logs: list[ast.expr]  # the values of `type` in the log calls
    names: set[str]  # all names that the function uses


def step_functions(sources: Sources) -> tuple[list[Place], list[Problem]]:
    """The functions that make an update, and a problem for each that makes one but differs too much."""
    found, problems = [], []
    for path, source in sources.items():
        for name, function in functions(source).items() if ".step(" in source.text else ():
            decision = next((node for node in ast.walk(function) if _is_decision(node)), None)
            if decision and (what := _difference(list(ast.walk(function)))):
                problems.append(source.problem(decision, what, BY_HAND))
            elif decision:
                found.append((path, name))
    return found, problems


def _is_decision(node: ast.AST) -> bool:
    """Whether this is an `if` on the gradient's norm, or on NaN, that an optimizer's step depends on."""
    steps = isinstance(node, ast.If) and any(dotted(call.func).endswith(".step") for line in node.body for call in calls(line))
    return steps and any(word in ast.unparse(node.test).lower() for word in ("skip_threshold", "nan", "grad_norm"))


def _difference(nodes: list[ast.AST]) -> str | None:
    """One sentence on what an update lacks to be counted; None if its function returns all the figures."""
    named = {getattr(node, "arg", getattr(node, "value", None)) for node in nodes if isinstance(node, ast.keyword | ast.Constant)}
    if missing := [key for key in KEYS if key not in named]:
        return f"an update, but no figure in it is called {' or '.join(missing)}"
    figures = {dotted(node.func).removesuffix(".update") for node in nodes
               if isinstance(node, ast.Call) and dotted(node.func).endswith(".update") and "skipped_updates" in ast.unparse(node)}
    items = [node for node in nodes if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "'skipped_updates'"]
    figures |= {dotted(node.value) for node in items}
    returned = [dotted(node.value) for node in nodes if isinstance(node, ast.Return) and node.value]
    if not returned or not set(returned) <= figures:
        return "an update, but its function does not return the figures (skipped_updates, grad_norm, ...) alone"
    return None


def train_loops(sources: Sources, path: str, steps: list[Place]) -> list[TrainLoop]:
    """The loops of a module that call one of `steps` and log a train_loss; raises CannotPatch where something is not clear."""
    source = sources[path]
    names = {name for name, place in visible(sources, path).items() if place in steps}
    names |= {f"self.{name.split('.')[1]}" for file, name in steps if file == path and "." in name}
    by_scope: dict[ast.AST, list[tuple[ast.Assign, ast.stmt]]] = {}
    for call in calls(source.tree) if names else ():
        if dotted(call.func) in names:
            above, scope = source.above(call), source.scope(call)
            loops = [node for node in above[: above.index(scope)] if isinstance(node, ast.For | ast.While)]
            if loops:
                by_scope.setdefault(scope, []).append((_assignment(source, call), loops[-1]))
    return [loop for scope, updates in by_scope.items() if (loop := _train_loop(source, scope, updates))]


def _assignment(source: Source, call: ast.Call) -> ast.Assign:
    line = source.statement(call)
    if not isinstance(line, ast.Assign) or line.value is not call or len(line.targets) > 1 or not dotted(line.targets[0]):
        raise CannotPatch(source.problem(line, "the update's figures are not assigned to a name of their own", BY_HAND))
    return line


def _train_loop(source: Source, scope: ast.AST, updates: list[tuple[ast.Assign, ast.stmt]]) -> TrainLoop | None:
    """None for updates that are not logged, as in a test."""
    own = [call for call in calls(scope) if source.scope(call) is scope]
    logs = {call: word.value for call in own for word in call.keywords
            if word.arg == "type" and isinstance(word.value, ast.Constant) and word.value.value == "train_loss"}
    if not logs:
        return None
    first = next(iter(logs))
    if first.lineno < updates[0][1].lineno:
        raise CannotPatch(source.problem(first, "a train_loss is logged before the loop that makes the updates", BY_HAND))
    steps = {dotted(next((word.value for word in call.keywords if word.arg == "step"), None)) for call in logs}
    if len(steps) != 1 or not all(steps):
        raise CannotPatch(source.problem(first, "the update's number is not clear: step= in log calls is not one name", BY_HAND))
    reads = [dotted(node.value) for node in ast.walk(scope) if isinstance(node, ast.Attribute) and node.attr in HYPERPARAMETERS]
    if not any(reads):
        what = f"it is not clear where the hyper-parameters are: none of {', '.join(HYPERPARAMETERS)} is read here"
        raise CannotPatch(source.problem(updates[0][0], what, BY_HAND))
    names = {node.id for node in ast.walk(scope) if isinstance(node, ast.Name)}
    return TrainLoop(updates, next(filter(None, reads)), steps.pop(), list(logs.values()), names)
