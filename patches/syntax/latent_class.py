"""Reads a class whose methods call a KL, and tells what to insert into it and to replace in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import libcst as cst
from libcst import matchers as m
from libcst.helpers import get_full_name_for_node

from patches.syntax import edit
from patches.syntax.dataflow import Definition, Origin, definitions, origin, reads
from patches.formulas.formula import Draw, Kl
from patches.syntax.hyperparameters import holder
from patches.syntax.names import calls, methods
from patches.sources import CannotPatch, Problem

Formulas = dict[str, Kl | Draw]  # by the name under which a module calls them
HARMLESS = {  # calls that take a log scale for one, or do not mind what it is
    *("exp", "ones_like", "zeros_like", "empty_like", "randn_like"),
    *("detach", "clone", "dict", "size", "cpu", "append"),
}
SIDES = {"log_scale": "posterior", "prior_log_scale": "prior"}
_BY_HAND = (
    "after the line that cuts log sigma out of the network's output, insert `v = self.scales.{side}_log_sigma(v)`; "
    "write each KL as `kl if self.scales.vanilla else self.scales.kl(loc, log_sigma, prior_loc, prior_log_sigma)`"
)


@dataclass
class ClassEdits:
    """Statements to insert after others, and expressions to put in the place of calls."""

    inserted: list[tuple[cst.BaseStatement, str]] = field(default_factory=list)
    replaced: dict[cst.Call, str] = field(default_factory=dict)

    def apply(self, module: cst.Module) -> cst.Module:
        """The module with all of them; an expression gets parentheses where it would not stand alone."""
        alone = {node.value for node in m.findall(module, m.Assign() | m.Return() | m.Arg())}
        for statement, code in self.inserted:
            module = edit.insert_after(module, statement, code)
        for call, code in self.replaced.items():
            bare = call in alone and not call.lpar
            module = edit.replace(module, call, cst.parse_expression(code if bare else f"({code})"))
        return module


class Latents(NamedTuple):
    """What the class's KL calls tell: where each side's log scale comes from, and whether it is a log-variance."""

    origins: dict[str, set[Origin]]
    variance: bool


def is_call_of(call: cst.Call, formulas: Formulas) -> Kl | Draw | None:
    """The recognised function that a call means, by name or dotted name; None for any other."""
    return formulas.get(get_full_name_for_node(call.func) or "")


def edits_of_class(path: str, module: cst.Module, owner: cst.ClassDef, formulas: Formulas, edits: ClassEdits) -> None:
    """Adds to `edits` what the class needs; nothing if its methods call no KL. Raises CannotPatch."""
    own = {f"self.{name.split('.', 1)[1]}": formula for name, formula in formulas.items()
           if name.startswith(f"{owner.name.value}.")}  # fmt: skip
    reader = _Reader(path, module, owner, formulas | own, edits)
    kl_calls = list(reader.formula_calls(Kl))
    if kl_calls:
        reader.read(kl_calls)


@dataclass
class _Reader:
    path: str
    module: cst.Module
    owner: cst.ClassDef
    formulas: Formulas
    edits: ClassEdits

    def formula_calls(self, kind: type) -> Iterator[tuple[cst.FunctionDef, cst.Call, Kl | Draw]]:
        """All calls of a kind in the class's methods."""
        for method in methods(self.owner):
            for call in calls(method):
                if isinstance(formula := is_call_of(call, self.formulas), kind):
                    yield method, call, formula

    def read(self, kl_calls: list[tuple[cst.FunctionDef, cst.Call, Kl]]) -> None:
        """Follows the KL calls' log scales, then every other method's pieces of the same networks."""
        scales = self._scales_name()
        latents = self._latents(kl_calls)
        for method, call, formula in kl_calls:
            given = self._arguments(call, formula)
            suffix = "kl_of_log_variances" if formula.variance else "kl"
            order = ("loc", "log_scale", "prior_loc", "prior_log_scale")
            stable = ", ".join(self._code(given[role]) for role in order)
            self.edits.replaced[call] = f"{self._code(call)} if {scales}.vanilla else {scales}.{suffix}({stable})"
        for method in methods(self.owner):
            self._convert(method, latents, scales)
        self._check_draws(latents)
        self._make_scales(scales)

    def _latents(self, kl_calls: list[tuple[cst.FunctionDef, cst.Call, Kl]]) -> Latents:
        origins: dict[str, set[Origin]] = {"posterior": set(), "prior": set()}
        for method, call, formula in kl_calls:
            given = self._arguments(call, formula)
            for role, side in SIDES.items():
                origins[side].add(self._origin(method, call, given[role], side))
        if origins["posterior"] & origins["prior"]:
            what = "posterior and prior are the same piece of the same output"
            raise self._problem(kl_calls[0][1], what, "posterior")
        kinds = {formula.variance for _, _, formula in kl_calls}
        if len(kinds) > 1:
            raise self._problem(kl_calls[0][1], "one KL of this class takes log sigmas, another log-variances", "prior")
        return Latents(origins, kinds.pop())

    def _origin(self, method: cst.FunctionDef, call: cst.Call, given: cst.BaseExpression, side: str) -> Origin:
        found = origin(self.module, definitions(method), given)
        if not isinstance(given, cst.Name) or found is None:
            what = f"the {side}'s log scale, {self._code(given)}, is not a local variable cut from a network's output"
            raise self._problem(call, what, side)
        return found

    def _arguments(self, call: cst.Call, formula: Kl | Draw) -> dict[str, cst.BaseExpression]:
        """The expression of each role; positional arguments go by the order of the function's parameters."""
        names, given = list(formula.roles), {}
        for index, argument in enumerate(call.args):
            name = argument.keyword.value if argument.keyword else names[index] if index < len(names) else None
            if argument.star or name not in formula.roles:
                raise self._problem(call, "its arguments are not the four of the KL, or the two of the draw", "prior")
            given[formula.roles[name]] = argument.value
        return given

    def _convert(self, method: cst.FunctionDef, latents: Latents, scales: str) -> None:
        """After each definition of a log scale in the method, its parameterization."""
        defined, done = definitions(method), set()
        for name, found in defined.items():
            for side, origins in latents.origins.items():
                if origin(self.module, defined, cst.Name(name)) in origins:
                    done |= {side}
                    self._parameterize(name, found, side, latents.variance, scales)
                    self._check_uses(method, name, side)
        for side, origins in latents.origins.items():
            for root in {place.root for place in origins} & self._called_roots(method) if side not in done else ():
                if not any(root == place.root for other in done for place in latents.origins[other]):
                    what = f"{root} gives the {side}, but its log scale is cut out in another way than for the KL"
                    raise self._problem(method, what, side)

    def _check_uses(self, method: cst.FunctionDef, name: str, side: str) -> None:
        """No call may read the log scale but those that take it for one: KL, draw, exp, or that only pass it on."""
        for call in calls(method):
            arguments = [argument.value for argument in call.args]
            receiver = call.func.value if isinstance(call.func, cst.Attribute) else None
            given = any(isinstance(node, cst.Name) and node.value == name for node in [*arguments, receiver])
            function = call.func.attr.value if receiver is not None else self._code(call.func)
            if given and not is_call_of(call, self.formulas) and function not in HARMLESS:
                what = f"{name}, the {side}'s log scale, is also read by {function}, which may not take it for one"
                raise self._problem(call, what, side)

    def _called_roots(self, method: cst.FunctionDef) -> set[str]:
        return {self._code(call.func) for call in calls(method)}

    def _parameterize(self, name: str, found: list[Definition], side: str, variance: bool, scales: str) -> None:
        for i, definition in enumerate(found):
            if i > 0 and name in reads(definition.value):
                continue  # an adjustment such as the temperature's, which adds to log sigma
            if i > 0:
                raise self._problem(definition.statement, f"{name}, the {side}'s log scale, is set twice", side)
            kind = "log_variance" if variance else "log_sigma"
            self.edits.inserted.append((definition.statement, f"{name} = {scales}.{side}_{kind}({name})"))

    def _check_draws(self, latents: Latents) -> None:
        """A recognised draw in the class must get a log scale of the same kind that was parameterized."""
        known = set().union(*latents.origins.values())
        for method, call, formula in self.formula_calls(Draw):
            given = self._arguments(call, formula)["log_scale"]
            if origin(self.module, definitions(method), given) not in known:
                what = f"the log scale of this draw, {self._code(given)}, is not one of the KL's"
                raise self._problem(call, what, "prior")
            if formula.variance != latents.variance:
                raise self._problem(call, "the draw and the KL disagree on log sigma and log-variance", "prior")

    def _scales_name(self) -> str:
        taken = "self.scales" in self.module.code_for_node(self.owner)
        return "self.stable_scales" if taken else "self.scales"

    def _make_scales(self, scales: str) -> None:
        found = holder(self.module, self.owner)
        if found is None:
            what = f"class {self.owner.name.value} has no argument or attribute that holds the hyper-parameters"
            line, by_hand = edit.line_of(self.module, self.owner), f"set {scales} = Scales(H) in its __init__"
            raise CannotPatch(Problem(self.path, line, what, f"class {self.owner.name.value}", by_hand))
        self.edits.inserted.append((found.after, f"{scales} = Scales({found.expression})"))

    def _problem(self, node: cst.CSTNode, what: str, side: str) -> CannotPatch:
        line, code = edit.line_of(self.module, node), edit.code_of(self.module, node)
        return CannotPatch(Problem(self.path, line, what, code, _BY_HAND.format(side=side)))

    def _code(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)
