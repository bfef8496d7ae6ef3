"""Recognises the loop that makes the updates and logs them."""

from dataclasses import dataclass

import libcst as cst
from libcst import matchers as m

from patches.problems import CannotPatch, Problem, Sources
from patches.rewrites.step_function import BY_HAND
from patches.syntax.edit import Statement, code_of, line_of, path_to
from patches.syntax.names import Place, calls, visible

HYPERPARAMETERS = (  # those of the original that a training loop may read
    *("num_epochs", "n_batch", "iters_per_print", "iters_per_save", "iters_per_ckpt", "iters_per_images"),
    *("epochs_per_eval", "save_dir", "desc", "ema_rate", "mpi_size"),
)
_READ = m.Attribute(value=m.Name() | m.Attribute(), attr=m.OneOf(*map(m.Name, HYPERPARAMETERS)))
_SCOPE = cst.FunctionDef | cst.ClassDef | cst.Module
_TYPE = m.Arg(keyword=m.Name("type"), value=m.SimpleString(m.MatchRegex("""["']train_loss["']""")))
_LOG_CALL = m.Call(args=[m.ZeroOrMore(), _TYPE, m.ZeroOrMore()])
_RESULT = m.SimpleStatementLine(body=[m.Assign(targets=[m.AssignTarget(m.Name() | m.Attribute())], value=m.Call())])


@dataclass(frozen=True)
class Update:
    """A statement of a training loop that assigns an update's figures, to the expression `figures`."""

    scope: cst.CSTNode  # the function around it, or the module
    loop: Statement  # the outermost loop in that scope
    line: cst.SimpleStatementLine
    figures: str


@dataclass(frozen=True)
class TrainLoop:
    """The updates of one function, the expressions of its hyper-parameters and step number, its log calls and names."""

    updates: list[Update]
    hyperparameters: str
    step: str
    log_calls: list[cst.Call]
    names: set[str]


def train_loops(sources: Sources, path: str, steps: list[Place]) -> list[TrainLoop]:
    """The loops of a module that call one of the functions `steps` and log a train_loss.

    Raises CannotPatch where the figures, the hyper-parameters or the step number of a loop are not clear.
    """
    module = sources[path]
    names = {name for name, place in visible(sources, path).items() if place in steps}
    names |= {f"self.{name.split('.')[1]}" for file, name in steps if file == path and "." in name}
    by_scope: dict[cst.CSTNode, list[Update]] = {}
    for line in m.findall(module, m.SimpleStatementLine()) if names else ():
        if update := _update(path, module, line, names):
            by_scope.setdefault(update.scope, []).append(update)
    return [loop for updates in by_scope.values() if (loop := _train_loop(path, module, updates))]


def _update(path: str, module: cst.Module, line: cst.SimpleStatementLine, names: set[str]) -> Update | None:
    """The update that a statement makes in a loop; None if it makes none."""
    made = [call for call in calls(line) if code_of(module, call.func) in names]
    nodes = path_to(module, line) if made else []
    scope = max((at for at, node in enumerate(nodes) if isinstance(node, _SCOPE)), default=0)
    loops = [node for node in nodes[scope:] if isinstance(node, cst.For | cst.While)]
    if not loops:
        return None
    if not m.matches(line, _RESULT) or line.body[0].value is not made[0]:
        raise _cannot(path, module, line, "the update's figures are not assigned to a name of their own")
    return Update(nodes[scope], loops[0], line, code_of(module, line.body[0].targets[0].target))


def _train_loop(path: str, module: cst.Module, updates: list[Update]) -> TrainLoop | None:
    """None for updates that are not logged, as in a test."""
    scope = updates[0].scope
    logs = [call for call in m.findall(scope, _LOG_CALL) if _is_directly_in(scope, call)]
    if not logs:
        return None
    if line_of(module, logs[0]) < line_of(module, updates[0].loop):
        raise _cannot(path, module, logs[0], "a train_loss is logged before the loop that makes the updates")
    steps = {_step(module, call) for call in logs}
    if len(steps) != 1 or None in steps:
        raise _cannot(path, module, logs[0], "the update's number is not clear: step= in the log calls is not one name")
    reads = m.findall(scope, _READ)
    if not reads:
        listed = ", ".join(HYPERPARAMETERS)
        what = f"it is not clear where the hyper-parameters are: none of {listed} is read here"
        raise _cannot(path, module, updates[0].line, what)
    names = {name.value for name in m.findall(scope, m.Name())}
    return TrainLoop(updates, code_of(module, reads[0].value), steps.pop(), logs, names)


def _is_directly_in(scope: cst.CSTNode, call: cst.Call) -> bool:
    return not any(isinstance(node, _SCOPE) for node in path_to(scope, call)[1:])


def _step(module: cst.Module, call: cst.Call) -> str | None:
    values = [each.value for each in call.args if each.keyword and each.keyword.value == "step"]
    return code_of(module, values[0]) if values and isinstance(values[0], cst.Name | cst.Attribute) else None


def _cannot(path: str, module: cst.Module, node: cst.CSTNode, what: str) -> CannotPatch:
    return CannotPatch(Problem(path, line_of(module, node), what, code_of(module, node), BY_HAND))
