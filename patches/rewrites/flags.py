"""Adds the scales' flags to the function that defines the training arguments."""

import re
from pathlib import PurePosixPath
from typing import NamedTuple

import libcst as cst
from libcst import matchers as m

from patches.problems import CannotPatch, Problem, Sources
from patches.syntax.edit import Statement, add_import, code_of, insert_after, line_of, path_to
from patches.syntax.import_form import import_from

GLUE, FUNCTION = "stable_scales", "add_scale_arguments"
_LATENTS, _LIMITS = "--zdim", {"--skip_threshold", "--grad_clip"}
_ADD_ARGUMENT = m.Call(func=m.Attribute(attr=m.Name("add_argument")))
_NAMES = "(zdim|skip_threshold|grad_clip)"
_DEFINITION = re.compile(rf"""["'](--)?{_NAMES}["']|^\s*((?!self\.)\w+\.)?{_NAMES}(\s*:|\s+=\s)""")
_BY_HAND = (
    "where the hyper-parameters are defined, add sigma_param = 'vanilla', posterior_sigma_param = None, "
    "prior_sigma_param = None and prior_const1 = False; with an argparse parser elsewhere, call "
    f"{FUNCTION}(parser) of {GLUE}.py on it"
)


class Parser(NamedTuple):
    """A parser of the training arguments: its file, its expression, and the last statement that adds an argument."""

    path: str
    expression: str
    last: Statement


def rewrite(sources: Sources) -> dict[str, cst.Module]:
    """The modules that define the training arguments, with the scales' flags.

    Raises CannotPatch if no parser has the training arguments, or parsers in several folders have them.
    """
    glue_folder(sources)
    changed = {}
    for parser in _parsers(sources):
        module = insert_after(changed.get(parser.path, sources[parser.path]), parser.last, f"{FUNCTION}({parser.expression})")
        before = path_to(module, parser.last)[1]
        changed[parser.path] = add_import(module, glue_import(sources, parser.path, FUNCTION, GLUE), before)
    return changed


def glue_folder(sources: Sources) -> str:
    """The folder of the file that defines the training arguments, with slashes; "" for the checkout itself.

    Raises CannotPatch if no file defines them, or files in several folders do.
    """
    parsers = _parsers(sources)
    if not parsers:
        raise CannotPatch(_no_parser(sources))
    folders = {PurePosixPath(parser.path).parent for parser in parsers}
    if len(folders) > 1:
        raise CannotPatch(*(_one_of_several(sources, parser) for parser in parsers))
    folder = str(folders.pop())
    return "" if folder == "." else folder


def glue_import(sources: Sources, path: str, name: str, glue: str) -> str:
    """The statement that imports `name` from the module `glue` into the file `path`, in the form of its own imports.

    Raises CannotPatch where the checkout's imports do not show the form.
    """
    folder = glue_folder(sources)
    try:
        return import_from(sources, path, folder, glue, name)
    except ValueError as error:
        place = f"{folder}/{glue}.py" if folder else f"{glue}.py"
        by_hand = f"import {name} from {place}, and make this file's other changes as the documentation shows them"
        raise CannotPatch(Problem(path, 0, f"cannot see how to import {place} here: {error}", "", by_hand)) from error


def _parsers(sources: Sources) -> list[Parser]:
    return [parser for path, module in sources.items() if _LATENTS in module.code for parser in _in_module(path, module)]


def _in_module(path: str, module: cst.Module) -> list[Parser]:
    """One for each function, or module level, whose add_argument calls have the flags of a training."""
    scopes: dict[cst.CSTNode, list[cst.Call]] = {}
    for call in m.findall(module, _ADD_ARGUMENT):
        scope = [node for node in path_to(module, call) if isinstance(node, cst.FunctionDef | cst.Module)][-1]
        scopes.setdefault(scope, []).append(call)
    flags = {scope: set().union(*map(_flags, found)) for scope, found in scopes.items()}
    return [_parser(path, module, found) for scope, found in scopes.items()
            if _LATENTS in flags[scope] and flags[scope] & _LIMITS]  # fmt: skip


def _flags(call: cst.Call) -> set[str]:
    return {argument.value.evaluated_value for argument in call.args if m.matches(argument.value, m.SimpleString())}


def _parser(path: str, module: cst.Module, found: list[cst.Call]) -> Parser:
    """Its place is below all the calls, in the block that adds the latents' flag."""
    latents = next(call for call in found if _LATENTS in _flags(call))
    blocks = [node for node in path_to(module, latents) if isinstance(node, cst.Module | cst.IndentedBlock)]
    last = [each for each in blocks[-1].body if any(path_to(each, call) for call in found)][-1]
    return Parser(path, code_of(module, latents.func.value), last)


def _no_parser(sources: Sources) -> Problem:
    what = f"no argparse parser has {_LATENTS} and {' or '.join(sorted(_LIMITS))}"
    for path, module in sources.items():
        for number, line in enumerate(module.code.splitlines(), 1):
            if _DEFINITION.search(line.partition("#")[0]):
                return Problem(path, number, f"a hyper-parameter, but {what}", line.strip(), _BY_HAND)
    return Problem(".", 0, what, "", _BY_HAND)


def _one_of_several(sources: Sources, parser: Parser) -> Problem:
    module = sources[parser.path]
    what = "this parser has the training arguments, and so has one in another folder"
    by_hand = f"keep one of them in the checkout, or put {GLUE}.py beside each and call {FUNCTION}({parser.expression})"
    return Problem(parser.path, line_of(module, parser.last), what, code_of(module, parser.last), by_hand)
