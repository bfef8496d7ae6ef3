"""Adds the scales' flags to the function that defines the training arguments."""

import ast
import re
from pathlib import PurePosixPath
from typing import NamedTuple

from patches.code.import_form import import_from
from patches.code.source import Edit, Source, Sources
from patches.problems import CannotPatch, Problem

GLUE, FUNCTION = "stable_scales", "add_scale_arguments"
_LATENTS, _LIMITS = "--zdim", {"--skip_threshold", "--grad_clip"}
_NAMES = "(zdim|skip_threshold|grad_clip)"
_DEFINITION = re.compile(rf"""["'](--)?{_NAMES}["']|^\s*((?!self\.)\w+\.)?{_NAMES}(\s*:|\s+=\s)""")
_BY_HAND = (
    "where the hyper-parameters are defined, add sigma_param = 'vanilla', posterior_sigma_param = None, "
    "prior_sigma_param = None and prior_const1 = False; with an argparse parser elsewhere, call "
    f"{FUNCTION}(parser) of {GLUE}.py on it"
)


class Parser(NamedTuple):
    """A parser of the training arguments: its file, its code, and the last statement that adds an argument."""

    source: Source
    expression: str
    last: ast.stmt


def rewrite(sources: Sources) -> list[Edit]:
    """The edits that add the scales' flags where the training arguments are defined; raises CannotPatch as glue_folder does."""
    glue_folder(sources)
    edits = []
    for source, expression, last in parsers(sources):
        before = source.tree.body.index([last, *source.above(last)][-2])
        edits.append(source.after(last, f"{FUNCTION}({expression})"))
        edits.append(source.add_import(glue_import(sources, source.path, FUNCTION, GLUE), before))
    return edits


def glue_folder(sources: Sources) -> str:
    """The folder whose file defines the training arguments, or ""; raises CannotPatch if there is none, or several."""
    found = parsers(sources)
    if not found:
        raise CannotPatch(_no_parser(sources))
    folders = {PurePosixPath(parser.source.path).parent for parser in found}
    if len(folders) > 1:
        what = "this parser has the training arguments, and so has one in another folder"
        by_hand = f"keep one of them in the checkout, or put {GLUE}.py beside each and call {FUNCTION}(parser)"
        raise CannotPatch(*(parser.source.problem(parser.last, what, by_hand) for parser in found))
    folder = str(folders.pop())
    return "" if folder == "." else folder


def glue_import(sources: Sources, path: str, name: str, glue: str) -> str:
    """The statement that imports `name` from the module `glue` into `path`; raises CannotPatch where its form is not clear."""
    folder = glue_folder(sources)
    try:
        return import_from(sources, path, folder, glue, name)
    except ValueError as error:
        place = f"{folder}/{glue}.py" if folder else f"{glue}.py"
        by_hand = f"import {name} from {place}, and make this file's other changes as the documentation shows them"
        raise CannotPatch(Problem(path, 0, f"cannot see how to import {place} here: {error}", "", by_hand)) from error


def parsers(sources: Sources) -> list[Parser]:
    return [parser for source in sources.values() if _LATENTS in source.text for parser in _in_source(source)]


def _in_source(source: Source) -> list[Parser]:
    """One for each function, or module level, whose add_argument calls have the flags of a training."""
    scopes: dict[ast.AST, list[ast.Call]] = {}
    for node in source.nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            scopes.setdefault(source.scope(node), []).append(node)
    flags = {scope: set().union(*map(_flags, found)) for scope, found in scopes.items()}
    return [_parser(source, found) for scope, found in scopes.items() if _LATENTS in flags[scope] and flags[scope] & _LIMITS]


def _flags(call: ast.Call) -> set[str]:
    return {argument.value for argument in call.args if isinstance(argument, ast.Constant)}


def _parser(source: Source, found: list[ast.Call]) -> Parser:
    """Its place is below all the calls, in the block that adds the latents' flag."""
    latents = next(call for call in found if _LATENTS in _flags(call))
    statement = source.statement(latents)
    block = next(part for part in vars(source.parents[statement]).values() if isinstance(part, list) and statement in part)
    around = {node for call in found for node in source.above(call)}
    return Parser(source, source.code(latents.func.value), [each for each in block if each in around][-1])


def _no_parser(sources: Sources) -> Problem:
    what = f"no argparse parser has {_LATENTS} and {' or '.join(sorted(_LIMITS))}"
    for path, source in sources.items():
        for number, line in enumerate(source.lines, 1):
            if _DEFINITION.search(line.partition("#")[0]):
                return Problem(path, number, f"a hyper-parameter, but {what}", line.strip(), _BY_HAND)
    return Problem(".", 0, what, "", _BY_HAND)
