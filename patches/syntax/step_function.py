"""Recognises the function that makes one update: it decides whether to, and returns the figures of the update."""

from typing import NamedTuple

import libcst as cst
from libcst import matchers as m

from patches.syntax.edit import code_of, line_of
from patches.syntax.names import Place, functions
from patches.sources import Problem, Sources

KEYS = ("distortion_nans", "rate_nans", "skipped_updates", "grad_norm")
BY_HAND = (
    "before the loop, write updates = UpdateLog(H), with UpdateLog from update_log.py and H the hyper-parameters; "
    "after each update, updates.count(step, dict(skipped_updates=..., rate_nans=..., distortion_nans=..., "
    "grad_norm=...)); and add **updates.totals() to the calls that log type='train_loss'"
)
_STEP = m.Call(func=m.Attribute(attr=m.Name("step")))
_SKIPPED_KEY = m.SimpleString(value=m.MatchRegex("""["']skipped_updates["']"""))
_SKIPPED_ITEM = m.Subscript(value=m.Name(), slice=[m.SubscriptElement(m.Index(_SKIPPED_KEY))])
_UPDATE = m.Call(func=m.Attribute(value=m.Name(), attr=m.Name("update")))
_HOLDS_SKIPPED = m.Arg(keyword=m.Name("skipped_updates")) | m.DictElement(key=_SKIPPED_KEY)


class StepFunction(NamedTuple):
    """A function that makes one update; `index` is the place of its figures in what it returns, None for all of it."""

    place: Place
    index: int | None


def step_functions(sources: Sources) -> tuple[list[StepFunction], list[Problem]]:
    """The functions that make an update, and for each that does but differs too much, what is different."""
    found, problems = [], []
    for path, module in sources.items():
        for name, function in functions(module).items() if ".step(" in module.code else ():
            decision = _decision(module, function)
            if decision is None:
                continue
            result = _recognise(function)
            if isinstance(result, str):
                problems.append(Problem(path, line_of(module, decision), result, code_of(module, decision), BY_HAND))
            else:
                found.append(StepFunction((path, name), result[0]))
    return found, problems


def _decision(module: cst.Module, function: cst.FunctionDef) -> cst.If | None:
    """The `if` on the gradient's norm, or on NaN, that an optimizer's step depends on."""
    for test in m.findall(function, m.If()):
        asked = module.code_for_node(test.test).lower()
        if m.findall(test.body, _STEP) and any(word in asked for word in ("skip_threshold", "nan", "grad_norm")):
            return test
    return None


def _recognise(function: cst.FunctionDef) -> tuple[int | None] | str:
    """The place of the figures in what the function returns, or a sentence on what is missing."""
    named = {argument.keyword.value for argument in m.findall(function, m.Arg(keyword=m.Name()))}
    quoted = {text.evaluated_value for text in m.findall(function, m.SimpleString())}
    missing = [key for key in KEYS if key not in named | quoted]
    if missing:
        return f"an update, but no figure in it is called {' or '.join(missing)}"
    figures = _figures(function)
    places = {_place(result.value, figures) for result in m.findall(function, m.Return(value=m.DoesNotMatch(None)))}
    if len(places) != 1 or -1 in places:
        return "an update, but its function does not return the figures (skipped_updates, grad_norm, ...)"
    return (places.pop(),)


def _figures(function: cst.FunctionDef) -> set[str]:
    """The names of the dict that skipped_updates is put into."""
    names = {call.func.value.value for call in m.findall(function, _UPDATE) if m.findall(call, _HOLDS_SKIPPED)}
    for assignment in m.findall(function, m.Assign()):
        holds = bool(m.findall(assignment.value, _HOLDS_SKIPPED))
        targets = [target.target for target in assignment.targets]
        names |= {target.value for target in targets if holds and isinstance(target, cst.Name)}
        names |= {target.value.value for target in targets if m.matches(target, _SKIPPED_ITEM)}
    return names


def _place(value: cst.BaseExpression, figures: set[str]) -> int | None:
    """None if `value` is the figures, their index if it is a tuple with them in it, else -1."""
    if isinstance(value, cst.Tuple):
        return next((i for i, each in enumerate(value.elements) if _place(each.value, figures) is None), -1)
    is_name = isinstance(value, cst.Name) and value.value in figures
    is_dict = isinstance(value, cst.Dict | cst.Call) and m.findall(value, _HOLDS_SKIPPED)
    return None if is_name or is_dict else -1
