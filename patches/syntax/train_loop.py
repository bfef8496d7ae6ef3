"""Recognises the loop that makes the updates and logs them."""

from dataclasses import dataclass

import libcst as cst
from libcst import matchers as m

from patches.syntax.edit import Statement, code_of, line_of, path_to
from patches.syntax.names import visible
from patches.sources import CannotPatch, Problem, Sources
from patches.syntax.step_function import BY_HAND, StepFunction

# Of the original's hyper-parameters those that a training loop may read.
_HYPERPARAMETERS = {
    "num_epochs", "n_batch", "iters_per_print", "iters_per_save", "iters_per_ckpt", "iters_per_images",
    "epochs_per_eval", "save_dir", "desc", "ema_rate", "mpi_size",
}  # fmt: skip
_READ = m.Attribute(attr=m.OneOf(*(m.Name(name) for name in sorted(_HYPERPARAMETERS))))
_SCOPE = cst.FunctionDef | cst.ClassDef | cst.Module
_LOG_CALL = m.Call(args=[
    m.ZeroOrMore(), m.Arg(keyword=m.Name("type"), value=m.SimpleString(m.MatchRegex("""["']train_loss["']"""))),
    m.ZeroOrMore(),
])  # fmt: skip
_RESULT = m.SimpleStatementLine(body=[m.Assign(targets=[m.DoNotCare()], value=m.Call())])


@dataclass(frozen=True)
class Update:
    """A statement of a training loop that assigns an update's figures, to the expression `figures`."""

    scope: cst.CSTNode  # the function around it, or the module
    loop: Statement  # the outermost loop in that scope
    line: cst.SimpleStatementLine
    figures: str


@dataclass(frozen=True)
class TrainLoop:
    """The updates that one function makes, its hyper-parameters' and step number's expressions, and its log calls."""

    updates: list[Update]
    hyperparameters: str
    step: str
    log_calls: list[cst.Call]
    names: set[str]


def train_loops(sources: Sources, path: str, steps: list[StepFunction]) -> list[TrainLoop]:
    """The loops of a module that call one of `steps` and log a train_loss.

    Raises CannotPatch for one whose figures, hyper-parameters or step number cannot be told.
    """
    module = sources[path]
    meanings = _meanings(sources, path, steps)
    by_scope: dict[int, list[Update]] = {}
    for line in m.findall(module, m.SimpleStatementLine()):
        update = _update(path, module, line, meanings) if meanings else None
        if update:
            by_scope.setdefault(id(update.scope), []).append(update)
    loops = [_train_loop(path, module, updates) for updates in by_scope.values()]
    return [loop for loop in loops if loop]


def _meanings(sources: Sources, path: str, steps: list[StepFunction]) -> dict[str, StepFunction]:
    """The step functions by the expressions that call them in a module."""
    known = {step.place: step for step in steps}
    methods = {f"self.{name.split('.')[1]}": step for (file, name),
        step in known.items() if file == path and "." in name}
    return {name: known[place] for name, place in visible(sources, path).items() if place in known} | methods


def _update(
    path: str, module: cst.Module, line: cst.SimpleStatementLine, meanings: dict[str, StepFunction]
) -> Update | None:
    """The update that a statement makes in a loop; None if it makes none."""
    calls = [call for call in m.findall(line, m.Call()) if code_of(module, call.func) in meanings]
    nodes = path_to(module, line) if calls else []
    scope = next((at for at in reversed(range(len(nodes))) if isinstance(nodes[at], _SCOPE)), 0)
    loops = [node for node in nodes[scope:] if isinstance(node, cst.For | cst.While)]
    if not loops:
        return None
    figures = None
    if m.matches(line, _RESULT) and line.body[0].value is calls[0]:
        step = meanings[code_of(module, calls[0].func)]
        figures = _figures(module, line.body[0].targets[0].target, step.index)
    if figures is None:
        raise _cannot(path, module, line, "the update's figures are not assigned to a name of their own")
    return Update(nodes[scope], loops[0], line, figures)


def _figures(module: cst.Module, target: cst.BaseExpression, index: int | None) -> str | None:
    if isinstance(target, cst.Tuple) and index is not None and index < len(target.elements):
        element = target.elements[index].value
        starred = any(isinstance(each, cst.StarredElement) for each in target.elements)
        return None if starred else _figures(module, element, None)
    is_whole = isinstance(target, cst.Name | cst.Attribute)
    return code_of(module, target) + ("" if index is None else f"[{index}]") if is_whole else None


def _train_loop(path: str, module: cst.Module, updates: list[Update]) -> TrainLoop | None:
    scope = updates[0].scope
    logs = [call for call in m.findall(scope, _LOG_CALL) if _is_own(scope, call)]
    if not logs:
        return None
    if line_of(module, logs[0]) < line_of(module, updates[0].loop):
        raise _cannot(path, module, logs[0], "a train_loss is logged before the loop that makes the updates")
    steps = {_step(module, call) for call in logs}
    if len(steps) != 1 or None in steps:
        raise _cannot(path, module, logs[0], "cannot tell the update's number: step= in the log calls is not one name")
    names = {name.value for name in m.findall(scope, m.Name())}
    return TrainLoop(updates, _hyperparameters(path, module, updates[0]), steps.pop(), logs, names)


def _hyperparameters(path: str, module: cst.Module, update: Update) -> str:
    reads = [read.value for read in m.findall(update.scope, _READ) if isinstance(read.value, cst.Name | cst.Attribute)]
    if reads:
        return code_of(module, reads[0])
    listed = ", ".join(sorted(_HYPERPARAMETERS))
    what = f"cannot tell where the hyper-parameters are: none of {listed} is read here"
    raise _cannot(path, module, update.line, what)


def _is_own(scope: cst.CSTNode, call: cst.Call) -> bool:
    """Whether no function or class lies between the scope and the call."""
    return not any(isinstance(node, _SCOPE) for node in path_to(scope, call)[1:])


def _step(module: cst.Module, call: cst.Call) -> str | None:
    values = [each.value for each in call.args if each.keyword and each.keyword.value == "step"]
    return code_of(module, values[0]) if values and isinstance(values[0], cst.Name | cst.Attribute) else None


def _cannot(path: str, module: cst.Module, node: cst.CSTNode, what: str) -> CannotPatch:
    return CannotPatch(Problem(path, line_of(module, node), what, code_of(module, node), BY_HAND))
