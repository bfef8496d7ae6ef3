"""Reads a class whose methods call a KL, and says what to insert into it and what to replace in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst
from libcst import matchers as m
from libcst.helpers import get_full_name_for_node

from patches.formulas.recognise import Draw, Kl
from patches.problems import CannotPatch, Problem
from patches.syntax import edit
from patches.syntax.dataflow import Definition, Origin, definitions, names_in, origin
from patches.syntax.names import calls, methods

Formulas = dict[str, Kl | Draw]  # by the name under which a module calls them
Edits = list[tuple[cst.BaseStatement, str]]
KL_ROLES = ("loc", "log_scale", "prior_loc", "prior_log_scale")
SIDES = {"log_scale": "posterior", "prior_log_scale": "prior"}
HARMLESS = {  # calls that take a log scale for one, or do not depend on what it means
    *("exp", "ones_like", "zeros_like", "empty_like", "randn_like"),
    *("detach", "clone", "dict", "size", "cpu", "append"),
}
HYPERPARAMETERS = (  # those of the original that a latent block may read
    *("zdim", "width", "custom_width_str", "bottleneck_multiple", "enc_blocks", "dec_blocks", "no_bias_above"),
    *("num_mixtures", "image_size", "image_channels", "dataset"),
)
_BY_HAND = (
    "after the line that cuts log sigma out of the network's output, insert `v = self.scales.{side}_log_sigma(v)`; "
    "write each KL as `kl if self.scales.vanilla else self.scales.kl(loc, log_sigma, prior_loc, prior_log_sigma)`"
)


@dataclass
class ClassEdits:
    """Statements to insert after others, and expressions to put in the place of calls."""

    inserted: Edits = field(default_factory=list)
    replaced: dict[cst.Call, str] = field(default_factory=dict)

    def apply(self, module: cst.Module) -> cst.Module:
        """The module with all of them; an expression gets parentheses where it does not stand alone."""
        alone = {node.value for node in m.findall(module, m.Assign() | m.Return() | m.Arg())}
        for statement, code in self.inserted:
            module = edit.insert_after(module, statement, code)
        for call, code in self.replaced.items():
            stands_alone = call in alone and not call.lpar
            module = edit.replace(module, call, cst.parse_expression(code if stands_alone else f"({code})"))
        return module


def called_formula(call: cst.Call, formulas: Formulas) -> Kl | Draw | None:
    """The recognised function that a call means; None for any other call."""
    return formulas.get(get_full_name_for_node(call.func) or "")


def edits_of_class(path: str, module: cst.Module, owner: cst.ClassDef, formulas: Formulas, edits: ClassEdits) -> None:
    """Adds to `edits` what the class needs: nothing if its methods call no KL. Raises CannotPatch."""
    own = {f"self.{name.split('.', 1)[1]}": formula for name, formula in formulas.items()
           if name.startswith(f"{owner.name.value}.")}  # fmt: skip
    reader = _Reader(path, module, owner, formulas | own, edits)
    if kl_calls := list(reader.formula_calls(Kl)):
        reader.read(kl_calls)


@dataclass
class _Reader:
    """Follows the log scales of one class. `origins` says which outputs each side's come from."""

    path: str
    module: cst.Module
    owner: cst.ClassDef
    formulas: Formulas
    edits: ClassEdits
    origins: dict[str, set[Origin]] = field(default_factory=lambda: {"posterior": set(), "prior": set()})
    variance: bool = False  # whether the log scales are log variances

    def formula_calls(self, kind: type) -> Iterator[tuple[cst.FunctionDef, cst.Call, Kl | Draw]]:
        """The method, the call and the formula of each call of this kind in the class."""
        for method in methods(self.owner):
            for call in calls(method):
                if isinstance(formula := called_formula(call, self.formulas), kind):
                    yield method, call, formula

    def read(self, kl_calls: list[tuple[cst.FunctionDef, cst.Call, Kl]]) -> None:
        """Replaces the KL calls, follows their log scales, and finds the same pieces in all methods."""
        scales = "self.stable_scales" if "self.scales" in self._code(self.owner) else "self.scales"
        self._find_origins(kl_calls)
        for _, call, formula in kl_calls:
            given = self._arguments(call, formula)
            function = "kl_of_log_variances" if formula.variance else "kl"
            stable = f"{scales}.{function}({', '.join(self._code(given[role]) for role in KL_ROLES)})"
            self.edits.replaced[call] = f"{self._code(call)} if {scales}.vanilla else {stable}"
        for method in methods(self.owner):
            self._parameterize_method(method, scales)
        self._check_draws()
        self.edits.inserted.append(self._making_of(scales))

    def _find_origins(self, kl_calls: list[tuple[cst.FunctionDef, cst.Call, Kl]]) -> None:
        for method, call, formula in kl_calls:
            given, defined = self._arguments(call, formula), definitions(method)
            for role, side in SIDES.items():
                found = origin(self.module, defined, given[role])
                if not isinstance(given[role], cst.Name) or found is None:
                    what = f"the {side}'s log scale, {self._code(given[role])}, is not a local variable cut from"
                    raise self._cannot(call, f"{what} a network's output", side)
                self.origins[side].add(found)
        if self.origins["posterior"] & self.origins["prior"]:
            raise self._cannot(kl_calls[0][1], "posterior and prior are the same piece of the same output", "posterior")
        self.variance = kl_calls[0][2].variance
        if any(formula.variance != self.variance for _, _, formula in kl_calls):
            what = "one KL of this class takes log sigmas, another takes log variances"
            raise self._cannot(kl_calls[0][1], what, "prior")

    def _arguments(self, call: cst.Call, formula: Kl | Draw) -> dict[str, cst.BaseExpression]:
        """The expression of each role; positional arguments have the order of the function's parameters."""
        names, given = list(formula.roles), {}
        for index, argument in enumerate(call.args):
            name = argument.keyword.value if argument.keyword else names[index] if index < len(names) else None
            if argument.star or name not in formula.roles:
                raise self._cannot(call, "its arguments are not the four of the KL, or the two of the draw", "prior")
            given[formula.roles[name]] = argument.value
        return given

    def _parameterize_method(self, method: cst.FunctionDef, scales: str) -> None:
        """Inserts the parameterization after the definition of each log scale in the method."""
        defined, done = definitions(method), set()
        for name, found in defined.items():
            for side, origins in self.origins.items():
                if origin(self.module, defined, cst.Name(name)) in origins:
                    done |= {place.root for place in origins}
                    self._parameterize(name, found, side, scales)
                    self._check_uses(method, name, side)
        called = {self._code(call.func) for call in calls(method)}
        for side, origins in self.origins.items():
            for root in sorted({place.root for place in origins} & called - done):
                what = f"{root} gives the {side}, but its log scale is cut out in another way than for the KL"
                raise self._cannot(method, what, side)

    def _parameterize(self, name: str, found: list[Definition], side: str, scales: str) -> None:
        first, *others = found
        for definition in others:
            if name not in names_in(definition.value):  # else it adjusts log sigma, as a temperature does
                raise self._cannot(definition.statement, f"{name}, the {side}'s log scale, is set twice", side)
        kind = "log_variance" if self.variance else "log_sigma"
        self.edits.inserted.append((first.statement, f"{name} = {scales}.{side}_{kind}({name})"))

    def _check_uses(self, method: cst.FunctionDef, name: str, side: str) -> None:
        """Only calls that take the log scale for one may read it: the KL, a draw, exp, and calls that pass it on."""
        for call in calls(method):
            receiver = call.func.value if isinstance(call.func, cst.Attribute) else None
            given = [*(argument.value for argument in call.args), receiver]
            function = call.func.attr.value if receiver is not None else self._code(call.func)
            reads = any(isinstance(node, cst.Name) and node.value == name for node in given)
            if reads and not called_formula(call, self.formulas) and function not in HARMLESS:
                what = f"{name}, the {side}'s log scale, is also read by {function}, which may not take it for one"
                raise self._cannot(call, what, side)

    def _check_draws(self) -> None:
        """A draw in the class must read a log scale that was parameterized, and of the same kind."""
        known = self.origins["posterior"] | self.origins["prior"]
        for method, call, formula in self.formula_calls(Draw):
            given = self._arguments(call, formula)["log_scale"]
            if origin(self.module, definitions(method), given) not in known:
                what = f"the log scale of this draw, {self._code(given)}, is not one of the KL's"
                raise self._cannot(call, what, "prior")
            if formula.variance != self.variance:
                raise self._cannot(call, "the draw and the KL disagree on log sigma and log variance", "prior")

    def _making_of(self, scales: str) -> tuple[cst.BaseStatement, str]:
        """The statement of __init__ after which the Scales are made, and the code that makes them."""
        for builder in methods(self.owner):
            if builder.name.value == "__init__" and (holder := self._hyperparameters(builder)):
                body = builder.body.body
                supers = [line for line in body if m.findall(line, m.Call(func=m.Attribute(attr=m.Name("__init__"))))]
                return (supers or body)[0], f"{scales} = Scales({holder})"
        name = f"class {self.owner.name.value}"
        what, by_hand = f"{name} has no argument or attribute that holds the hyper-parameters", f"set {scales} = Scales(H)"
        raise CannotPatch(Problem(self.path, edit.line_of(self.module, self.owner), what, name, f"{by_hand} in its __init__"))

    def _hyperparameters(self, builder: cst.FunctionDef) -> str | None:
        """The one argument of __init__, or else attribute of self, on which it reads known hyper-parameters."""
        reads = m.findall(builder.body, m.Attribute(attr=m.OneOf(*map(m.Name, HYPERPARAMETERS))))
        holders = {self._code(read.value) for read in reads}
        arguments = holders & {parameter.name.value for parameter in builder.params.params[1:]}
        attributes = {holder for holder in holders if holder.startswith("self.") and holder.count(".") == 1}
        found = arguments or attributes
        return found.pop() if len(found) == 1 else None

    def _cannot(self, node: cst.CSTNode, what: str, side: str) -> CannotPatch:
        line, code = edit.line_of(self.module, node), edit.code_of(self.module, node)
        return CannotPatch(Problem(self.path, line, what, code, _BY_HAND.format(side=side)))

    def _code(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)
