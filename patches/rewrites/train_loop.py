"""Recognises the function that makes one update, and the loop that makes the updates and logs them."""

import ast
from dataclasses import dataclass

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
    *("num_epochs", "n_batch", "iters_per_print", "iters_per_save", "iters_per_ckpt", "iters_per_images"),
    *("epochs_per_eval", "save_dir", "desc", "ema_rate", "mpi_size"),
)
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


@dataclass(frozen=True)
class Update:
    """A statement of a training loop that assigns an update's figures, to the expression `figures`."""

    loop: ast.stmt  # the outermost loop in its function
    line: ast.Assign
    figures: str


@dataclass(frozen=True)
class TrainLoop:
    """The updates of one function, the expressions of its hyper-parameters and step number, its log calls and names."""

    updates: list[Update]
    hyperparameters: str
    step: str
    log_calls: list[ast.Call]
    names: set[str]


def step_functions(sources: Sources) -> tuple[list[Place], list[Problem]]:
    """The functions that make an update, and a problem for each that makes one but differs too much."""
    found, problems = [], []
    for path, source in sources.items():
        for name, function in functions(source).items() if ".step(" in source.text else ():
            if (decision := _decision(source, function)) is None:
                continue
            if what := _difference(function):
                problems.append(source.problem(decision, what, BY_HAND))
            else:
                found.append((path, name))
    return found, problems


def _decision(source: Source, function: ast.FunctionDef) -> ast.If | None:
    """The `if` on the gradient's norm, or on NaN, that an optimizer's step depends on."""
    for test in ast.walk(function):
        if isinstance(test, ast.If):
            steps = any(dotted(call.func).endswith(".step") for line in test.body for call in calls(line))
            condition = source.code(test.test).lower()
            if steps and any(word in condition for word in ("skip_threshold", "nan", "grad_norm")):
                return test
    return None


def _difference(function: ast.FunctionDef) -> str | None:
    """One sentence on what an update lacks to be counted; None if it returns all the figures."""
    nodes = list(ast.walk(function))
    named = {node.arg for node in nodes if isinstance(node, ast.keyword)}
    quoted = {node.value for node in nodes if isinstance(node, ast.Constant)}
    missing = [key for key in KEYS if key not in named | quoted]
    if missing:
        return f"an update, but no figure in it is called {' or '.join(missing)}"
    returned, figures = [node.value for node in nodes if isinstance(node, ast.Return) and node.value], _figures(nodes)
    if not returned or not all(isinstance(value, ast.Name) and value.id in figures for value in returned):
        return "an update, but its function does not return the figures (skipped_updates, grad_norm, ...) alone"
    return None


def _figures(nodes: list[ast.AST]) -> set[str]:
    """The names of the dict that skipped_updates is put into."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Call) and dotted(node.func).endswith(".update") and "skipped_updates" in ast.unparse(node):
            names.add(dotted(node.func).removesuffix(".update"))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and "'skipped_updates'" == ast.unparse(node.slice):
            names.add(dotted(node.value))
    return names


def train_loops(sources: Sources, path: str, steps: list[Place]) -> list[TrainLoop]:
    """The loops of a module that call one of the functions `steps` and log a train_loss.

    Raises CannotPatch where the figures, the hyper-parameters or the step number of a loop are not clear.
    """
    source = sources[path]
    names = {name for name, place in visible(sources, path).items() if place in steps}
    names |= {f"self.{name.split('.')[1]}" for file, name in steps if file == path and "." in name}
    by_scope: dict[ast.AST, list[Update]] = {}
    for call in calls(source.tree) if names else ():
        if dotted(call.func) in names and (update := _update(source, call)):
            by_scope.setdefault(_scope(source, call), []).append(update)
    return [loop for scope, updates in by_scope.items() if (loop := _train_loop(source, scope, updates))]


def _scope(source: Source, node: ast.AST) -> ast.AST:
    return next(each for each in source.above(node) if isinstance(each, _SCOPES))


def _update(source: Source, call: ast.Call) -> Update | None:
    """The update that a call makes in a loop; None if it makes none."""
    line, above = source.statement(call), source.above(call)
    loops = [node for node in above[: above.index(_scope(source, call))] if isinstance(node, ast.For | ast.While)]
    if not loops:
        return None
    if not isinstance(line, ast.Assign) or line.value is not call or len(line.targets) > 1 or not dotted(line.targets[0]):
        raise source.cannot(line, "the update's figures are not assigned to a name of their own", BY_HAND)
    return Update(loops[-1], line, dotted(line.targets[0]))


def _train_loop(source: Source, scope: ast.AST, updates: list[Update]) -> TrainLoop | None:
    """None for updates that are not logged, as in a test."""
    logs = [call for call in calls(scope) if _logs_train_loss(call) and _scope(source, call) is scope]
    if not logs:
        return None
    if logs[0].lineno < updates[0].loop.lineno:
        raise source.cannot(logs[0], "a train_loss is logged before the loop that makes the updates", BY_HAND)
    steps = {dotted(word.value) for call in logs for word in call.keywords if word.arg == "step"}
    if len(steps) != 1 or not all(steps) or any("step" not in {word.arg for word in call.keywords} for call in logs):
        raise source.cannot(logs[0], "the update's number is not clear: step= in the log calls is not one name", BY_HAND)
    nodes = list(ast.walk(scope))
    reads = [owner for node in nodes if isinstance(node, ast.Attribute) and node.attr in HYPERPARAMETERS and (
        owner := dotted(node.value))]  # fmt: skip
    if not reads:
        listed = ", ".join(HYPERPARAMETERS)
        what = f"it is not clear where the hyper-parameters are: none of {listed} is read here"
        raise source.cannot(updates[0].line, what, BY_HAND)
    return TrainLoop(updates, reads[0], steps.pop(), logs, {node.id for node in nodes if isinstance(node, ast.Name)})


def _logs_train_loss(call: ast.Call) -> bool:
    return any(word.arg == "type" and isinstance(word.value, ast.Constant) and word.value.value == "train_loss"
               for word in call.keywords)
