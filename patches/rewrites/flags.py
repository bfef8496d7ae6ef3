"""Adds the scales' flags to the function that defines the training arguments."""

from pathlib import PurePosixPath
from typing import NamedTuple

import libcst as cst
from libcst import matchers as m

from patches.syntax.edit import Statement, add_import, code_of, imports_from, insert_after, line_of, path_to
from patches.syntax.import_form import import_from
from patches.sources import CannotPatch, Problem, Sources

GLUE = "stable_scales"
FUNCTION = "add_scale_arguments"
_LATENTS, _LIMITS = "--zdim", {"--skip_threshold", "--grad_clip"}
_ADD_ARGUMENT = m.Call(func=m.Attribute(attr=m.Name("add_argument")))
_NAMED = m.OneOf(m.Name("zdim"), m.Name("skip_threshold"), m.Name("grad_clip"))
_QUOTED = m.SimpleString(value=m.MatchRegex(r"""["'](--)?(zdim|skip_threshold|grad_clip)["']"""))
_TARGET = _NAMED | m.Attribute(value=m.DoesNotMatch(m.Name("self")), attr=_NAMED)
_DEFINITION = m.OneOf(
    m.AssignTarget(_TARGET), m.AnnAssign(target=_TARGET), m.DictElement(key=_QUOTED),
    m.Call(func=m.Attribute(attr=m.Name("add_argument")), args=[m.Arg(_QUOTED), m.ZeroOrMore()]),
)  # fmt: skip
_BY_HAND = (
    "where the hyper-parameters are defined, add sigma_param = 'vanilla', posterior_sigma_param = None, "
    "prior_sigma_param = None and prior_const1 = False; with an argparse parser elsewhere, call "
    f"{FUNCTION}(parser) of {GLUE}.py on it"
)


class Arguments(NamedTuple):
    """Where the training arguments are added: the parser's expression, and the last statement that adds one."""

    path: str
    parser: str
    last: Statement


def rewrite(sources: Sources) -> dict[str, cst.Module]:
    """The modules that define the training arguments, with the scales' flags; {} if they are there already.

    Raises CannotPatch if no parser has the training arguments, or parsers in several folders have them.
    """
    if any(imports_from(module, GLUE, FUNCTION) for module in sources.values()):
        return {}
    glue_folder(sources)
    changed = {}
    for place in _find(sources):
        module = insert_after(changed.get(place.path, sources[place.path]), place.last, f"{FUNCTION}({place.parser})")
        before = path_to(module, place.last)[1]
        changed[place.path] = add_import(module, glue_import(sources, place.path, FUNCTION, GLUE), before)
    return changed


def glue_folder(sources: Sources) -> str:
    """The folder, with slashes and "" for the checkout itself, of the file that defines the training arguments.

    Raises CannotPatch if there is none, or files in several folders do.
    """
    places = _find(sources)
    if not places:
        raise CannotPatch(_no_parser(sources))
    folders = {PurePosixPath(place.path).parent for place in places}
    if len(folders) > 1:
        raise CannotPatch(*(_several(sources, place) for place in places))
    folder = str(folders.pop())
    return "" if folder == "." else folder


def glue_import(sources: Sources, path: str, name: str, from_: str = GLUE) -> str:
    """The statement that imports `name` from the glue module `from_` into the file `path`, in the form of its imports.

    Raises CannotPatch where the checkout's imports do not tell how.
    """
    folder = glue_folder(sources)
    try:
        return import_from(sources, path, folder, from_, name)
    except ValueError as error:
        place = f"{folder}/{from_}.py" if folder else f"{from_}.py"
        by_hand = f"import {name} from {place}, and make this file's other changes as the documentation shows them"
        what = f"cannot tell how this file imports {place}: {error}"
        raise CannotPatch(Problem(path, 0, what, "", by_hand)) from error


def _find(sources: Sources) -> list[Arguments]:
    return [place for path, module in sources.items() if _LATENTS in module.code for place in _in_module(path, module)]


def _in_module(path: str, module: cst.Module) -> list[Arguments]:
    """One for each function, or module level, whose add_argument calls have the flags of a training."""
    scopes: dict[int, list[cst.Call]] = {}
    for call in m.findall(module, _ADD_ARGUMENT):
        scopes.setdefault(id(_scope(module, call)), []).append(call)
    return [_arguments(path, module, calls) for calls in scopes.values() if _is_training(calls)]


def _scope(module: cst.Module, call: cst.Call) -> cst.CSTNode:
    return [node for node in path_to(module, call) if isinstance(node, cst.FunctionDef | cst.Module)][-1]


def _is_training(calls: list[cst.Call]) -> bool:
    flags = set().union(*map(_flags, calls))
    return _LATENTS in flags and bool(flags & _LIMITS)


def _flags(call: cst.Call) -> set[str]:
    return {argument.value.evaluated_value for argument in call.args if m.matches(argument.value, m.SimpleString())}


def _arguments(path: str, module: cst.Module, calls: list[cst.Call]) -> Arguments:
    """The place below all of `calls` in the block that adds the latents' flag."""
    latents = next(call for call in calls if _LATENTS in _flags(call))
    blocks = [node for node in path_to(module, latents) if isinstance(node, cst.Module | cst.IndentedBlock)]
    last = [each for each in blocks[-1].body if any(path_to(each, call) for call in calls)][-1]
    return Arguments(path, code_of(module, latents.func.value), last)


def _no_parser(sources: Sources) -> Problem:
    what = f"no argparse parser has {_LATENTS} and {' or '.join(sorted(_LIMITS))}"
    for path, module in sources.items():
        for line in m.findall(module, m.SimpleStatementLine()):
            if m.findall(line, _DEFINITION):
                what = f"a hyper-parameter, but {what}"
                return Problem(path, line_of(module, line), what, code_of(module, line), _BY_HAND)
    return Problem(".", 0, what, "", _BY_HAND)


def _several(sources: Sources, place: Arguments) -> Problem:
    module = sources[place.path]
    what = f"{len(_find(sources))} parsers, in several folders, have the training arguments"
    by_hand = f"keep one of them in the checkout, or put {GLUE}.py beside each and call {FUNCTION}({place.parser})"
    return Problem(place.path, line_of(module, place.last), what, code_of(module, place.last), by_hand)
