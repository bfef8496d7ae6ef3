"""Recognises the function that makes one update: it decides on the update, and returns its figures."""

import libcst as cst
from libcst import matchers as m

from patches.problems import Problem, Sources
from patches.syntax.edit import code_of, line_of
from patches.syntax.names import Place, functions

KEYS = ("distortion_nans", "rate_nans", "skipped_updates", "grad_norm")
BY_HAND = (
    "before the loop, write updates = UpdateLog(H), with UpdateLog from update_log.py and H the hyper-parameters; "
    "after each update, updates.count(step, dict(skipped_updates=..., rate_nans=..., distortion_nans=..., "
    "grad_norm=...)); and add **updates.totals() to the calls that log type='train_loss'"
)
_STEP = m.Call(func=m.Attribute(attr=m.Name("step")))
_SKIPPED = m.SimpleString(value=m.MatchRegex("""["']skipped_updates["']"""))
_HOLDS_SKIPPED = m.Arg(keyword=m.Name("skipped_updates")) | m.DictElement(key=_SKIPPED)
_UPDATE = m.Call(func=m.Attribute(value=m.Name(), attr=m.Name("update")))
_ITEM = m.AssignTarget(m.Subscript(value=m.Name(), slice=[m.SubscriptElement(m.Index(_SKIPPED))]))


def step_functions(sources: Sources) -> tuple[list[Place], list[Problem]]:
    """The functions that make an update, and a problem for each that makes one but differs too much."""
    found, problems = [], []
    for path, module in sources.items():
        for name, function in functions(module).items() if ".step(" in module.code else ():
            decision = _decision(module, function)
            if decision is None:
                continue
            if what := _difference(function):
                problems.append(Problem(path, line_of(module, decision), what, code_of(module, decision), BY_HAND))
            else:
                found.append((path, name))
    return found, problems


def _decision(module: cst.Module, function: cst.FunctionDef) -> cst.If | None:
    """The `if` on the gradient's norm, or on NaN, that an optimizer's step depends on."""
    for test in m.findall(function, m.If()):
        condition = module.code_for_node(test.test).lower()
        if m.findall(test.body, _STEP) and any(word in condition for word in ("skip_threshold", "nan", "grad_norm")):
            return test
    return None


def _difference(function: cst.FunctionDef) -> str | None:
    """One sentence on what an update lacks to be counted; None if it returns all the figures."""
    named = {argument.keyword.value for argument in m.findall(function, m.Arg(keyword=m.Name()))}
    quoted = {text.evaluated_value for text in m.findall(function, m.SimpleString())}
    missing = [key for key in KEYS if key not in named | quoted]
    if missing:
        return f"an update, but no figure in it is called {' or '.join(missing)}"
    returned = [result.value for result in m.findall(function, m.Return(value=m.DoesNotMatch(None)))]
    figures = _figures(function)
    if not returned or not all(isinstance(value, cst.Name) and value.value in figures for value in returned):
        return "an update, but its function does not return the figures (skipped_updates, grad_norm, ...) alone"
    return None


def _figures(function: cst.FunctionDef) -> set[str]:
    """The names of the dict that skipped_updates is put into."""
    names = {call.func.value.value for call in m.findall(function, _UPDATE) if m.findall(call, _HOLDS_SKIPPED)}
    return names | {item.target.value.value for item in m.findall(function, _ITEM)}
