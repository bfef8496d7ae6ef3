"""Reads a class whose methods call a KL, and says what to insert into it and what to replace in it."""

import ast
from collections.abc import Iterator, Mapping

from patches.code.names import calls, dotted, methods
from patches.code.source import Source
from patches.problems import CannotPatch, Problem
from patches.rewrites.flow import CONVERSIONS, Flow, Output, Piece
from patches.rewrites.gaussians import Draw, Kl

Formulas = Mapping[str, Kl | Draw]  # by the name under which a module calls them
KL_ROLES = ("loc", "log_scale", "prior_loc", "prior_log_scale")
SIDES = {"log_scale": "posterior", "prior_log_scale": "prior"}
HARMLESS = {  # calls that take a log scale for one, or do not depend on what it means
    *"exp ones_like zeros_like empty_like randn_like detach dict size append print mean min max item isnan isfinite".split(),
    *CONVERSIONS,
}
HYPERPARAMETERS = (  # those of the original that a latent block may read
    "zdim width custom_width_str bottleneck_multiple enc_blocks dec_blocks no_bias_above num_mixtures image_size image_channels"
).split()  # fmt: skip
_BY_HAND = (
    "after the line that cuts log sigma out of the network's output, insert `v = self.scales.{side}_log_sigma(v)`; "
    "write each KL as `kl if self.scales.vanilla else self.scales.kl(loc, log_sigma, prior_loc, prior_log_sigma)`"
)


def called_formula(call: ast.Call, formulas: Formulas) -> Kl | Draw | None:
    """The recognised function that a call means; None for any other call."""
    return formulas.get(dotted(call.func))


class LatentClass:
    """A class that calls a KL: `kls` are these calls, `edits` its changes, `sides` says whose log scale a piece is.

    Raises CannotPatch where a log scale cannot be followed, or where the parameterization would change something else.
    """

    def __init__(self, source: Source, owner: ast.ClassDef, formulas: Formulas) -> None:
        own = {f"self.{name.split('.', 1)[1]}": formula for name, formula in formulas.items() if name.startswith(f"{owner.name}.")}
        self.source, self.owner, self.formulas, self.edits, self.sides = source, owner, {**formulas, **own}, [], {}
        self.kls = list(self._calls(Kl))
        if self.kls:
            self.flows = {method: Flow(method) for method in methods(owner)}
            self.scales = "self.stable_scales" if "self.scales" in source.code(owner) else "self.scales"
            self._find_sides()
            self._check_roles()
            self._check_networks()
            for flow in self.flows.values():
                self._convert(flow)
                self._check_reads(flow)
            self._check_draws()
            self._replace_kls()
            self._make_scales()

    def _calls(self, kind: type) -> Iterator[tuple[ast.FunctionDef, ast.Call, Kl | Draw]]:
        """The method, the call and the formula of each call of this kind in the class."""
        for method in methods(self.owner):
            for call in calls(method):
                if isinstance(formula := called_formula(call, self.formulas), kind):
                    yield method, call, formula

    def _arguments(self, call: ast.Call, formula: Kl | Draw) -> dict[str, ast.expr]:
        """The expression of each role; positional arguments have the order of the function's parameters."""
        given = dict(zip(formula.roles, call.args)) | {word.arg: word.value for word in call.keywords}
        if given.keys() != formula.roles.keys() or len(call.args) + len(call.keywords) != len(given):
            raise self._cannot(call, "its arguments are not the four of the KL, or the two of the draw", "prior")
        return {formula.roles[name]: value for name, value in given.items()}

    def _find_sides(self) -> None:
        self.scale = self.kls[0][2].scale
        for method, call, formula in self.kls:
            if not formula.scale.startswith("log"):
                raise self._cannot(call, f"this KL takes the {formula.scale} itself, not its logarithm", "prior")
            if formula.scale != self.scale:
                raise self._cannot(call, "one KL of this class takes log sigmas, another takes log variances", "prior")
            given, flow = self._arguments(call, formula), self.flows[method]
            values = {role: flow.values.get(node) for role, node in given.items()}
            for role, side in SIDES.items():
                if not isinstance(values[role], Piece) or values[role].fresh or flow.open.keys() & set(ast.walk(given[role])):
                    raise self._not_followed(flow, given[role], side)
                if self.sides.setdefault(values[role].key(), side) != side:
                    raise self._cannot(call, "posterior and prior are the same piece of the same output", "posterior")
            if len({value.root for value in values.values() if isinstance(value, Piece)}) > 2:
                raise self._cannot(call, "its means do not come from the networks of its log scales", "prior")

    def _not_followed(self, flow: Flow, node: ast.expr, side: str) -> CannotPatch:
        what = f"the {side}'s log scale, {self.source.code(node)}, is not a local variable cut from a network's output"
        place = flow.set_in.get(node.id) if isinstance(node, ast.Name) else None
        return self._cannot(place or node, what + ", at most with a temperature added" * bool(place), side)

    def _check_roles(self) -> None:
        """The prior is what free samples are drawn from: some method calls its network without the posterior's."""
        roots = {side: {piece.root for piece in self.sides if self.sides[piece] == side} for side in SIDES.values()}
        called = [{dotted(call.func).removesuffix(".forward") for call in calls(method)} for method in self.flows]
        alone = {side for found in called for side, other in zip(roots, [*roots][::-1])
                 if roots[side] & found and not roots[other] & found}  # fmt: skip
        if alone == {"posterior"}:
            what = f"the first normal of this KL is that of {min(roots['posterior'])}, from which free samples are drawn"
            raise self._cannot(self.kls[0][1], f"{what}: is the KL reversed?", "prior")

    def _check_networks(self) -> None:
        """Every use of a network must be a call whose output is followed, or a use of its parts."""
        roots, followed = {piece.root for piece in self.sides}, {node for flow in self.flows.values() for node in flow.values}
        for node in ast.walk(self.owner):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and dotted(node) in roots:
                parent = self.source.parents[node]
                if isinstance(parent, ast.Attribute) and parent.attr == "forward":
                    node, parent = parent, self.source.parents[parent]
                is_call = isinstance(parent, ast.Call) and parent.func is node and node in followed
                if not is_call and not isinstance(parent, ast.Attribute):
                    raise self._cannot(node, f"{dotted(node)} is used in a way that is not followed", self._side(dotted(node)))
        for helper in [method for method in self.flows if f"self.{method.name}" in roots]:
            inner = {value.root for value in self.flows[helper].values.values() if isinstance(value, Piece)}
            for call in [call for method in self.flows if method is not helper for call in calls(method)]:
                if dotted(call.func).removesuffix(".forward") in inner:
                    raise self._cannot(call, f"this output is cut here and in {helper.name} too", self._side(f"self.{helper.name}"))

    def _side(self, root: str) -> str:
        return next(side for piece, side in self.sides.items() if piece.root == root.removesuffix(".forward"))

    def _check_draws(self) -> None:
        """A draw in the class must read a log scale that was parameterized, and of the same kind."""
        for method, call, formula in self._calls(Draw):
            given = self._arguments(call, formula)
            loc, value = (self.flows[method].values.get(given[role]) for role in ("loc", "log_scale"))
            if not isinstance(value, Piece) or value.key() not in self.sides:
                what = f"the log scale of this draw, {self.source.code(given['log_scale'])}, is not one of the KL's"
                raise self._cannot(call, what, "prior")
            if isinstance(loc, Piece) and (loc.root != value.root or loc.key() in self.sides):
                raise self._cannot(call, "the mean of this draw does not belong to its log scale", "prior")
            if formula.scale != self.scale:
                raise self._cannot(call, "the draw and the KL disagree on log sigma and log variance", "prior")

    def _convert(self, flow: Flow) -> None:
        """Parameterizes each log scale where it is cut out of an output, and nowhere else."""
        for statement, name, piece in flow.bound:
            if side := self._side_of(statement, piece):
                self.edits.append(self.source.after(statement, f"{name} = {self._converted(side, name)}"))
        for node, value in flow.open.items():
            if isinstance(value, Piece) and (side := self._side_of(node, value.key())):
                self.edits.append(self.source.replace(node, f"({self._converted(side, self.source.code(node))})"))
            elif isinstance(value, Output) and value.root in {piece.root for piece in self.sides}:
                side = self._side(value.root)
                what = f"the output of {value.root}, the {side}'s log scale in it, is used as a whole, or cut in a way not followed"
                raise self._cannot(node, what, side)

    def _side_of(self, node: ast.AST, piece: Piece) -> str | None:
        """The side whose log scale the piece is; None for a piece that has nothing of a log scale."""
        for known, side in self.sides.items():
            if piece != known and not piece.is_apart(known):
                what = f"{known.root} gives the {side}, but its log scale is cut out in another way than for the KL"
                raise self._cannot(node, what, side)
        return self.sides.get(piece)

    def _converted(self, side: str, code: str) -> str:
        """The code of the log sigma, or log variance, in the place of a network's output."""
        of_variance = self.scale == "log variance"
        return f"2 * {self.scales}.{side}_log_sigma({code} / 2)" if of_variance else f"{self.scales}.{side}_log_sigma({code})"

    def _check_reads(self, flow: Flow) -> None:
        """Only calls that take the log scale for one may read it: the KL, a draw, exp, and calls that pass it on."""
        for call in [node for node in flow.values if isinstance(node, ast.Call)]:
            function = call.func.attr if isinstance(call.func, ast.Attribute) else dotted(call.func)
            if called_formula(call, self.formulas) or function in HARMLESS or isinstance(flow.values[call], Piece):
                continue
            for node in [*call.args, *(word.value for word in call.keywords), getattr(call.func, "value", call.func)]:
                value = flow.values.get(node)
                if isinstance(value, Piece) and (side := self.sides.get(value.key())):
                    what = f"{self.source.code(node)}, the {side}'s log scale, is also read by {function}"
                    raise self._cannot(call, f"{what}, which may not take it for one", side)

    def _replace_kls(self) -> None:
        for _, call, formula in self.kls:
            given = self._arguments(call, formula)
            codes = {role: self.source.code(given[role]) for role in KL_ROLES}
            if self.scale == "log variance":
                codes |= {role: f"{codes[role]} / 2" if codes[role].isidentifier() else f"({codes[role]}) / 2" for role in SIDES}
            stable = f"{self.scales}.kl({', '.join(codes.values())})"
            code, parent = f"{self.source.code(call)} if {self.scales}.vanilla else {stable}", self.source.parents[call]
            stands_alone = isinstance(parent, ast.Assign | ast.Return | ast.keyword) or call in getattr(parent, "args", ())
            self.edits.append(self.source.replace(call, code if stands_alone else f"({code})"))

    def _make_scales(self) -> None:
        """Makes the Scales in __init__, behind the call of super's."""
        for builder in methods(self.owner):
            if builder.name == "__init__" and (holder := _hyperparameters(builder)):
                supers = [line for line in builder.body if any(getattr(call.func, "attr", "") == "__init__" for call in calls(line))]
                self.edits.append(self.source.after((supers or builder.body)[0], f"{self.scales} = Scales({holder})"))
                return
        what = f"class {self.owner.name} has no argument or attribute that holds the hyper-parameters"
        by_hand = f"give its __init__ the names of the scales, and set {self.scales} = Scales(dict(sigma_param=...)) in it"
        raise CannotPatch(Problem(self.source.path, self.owner.lineno, what, f"class {self.owner.name}", by_hand))

    def _cannot(self, node: ast.AST, what: str, side: str) -> CannotPatch:
        return CannotPatch(self.source.problem(self.source.statement(node), what, _BY_HAND.format(side=side)))


def _hyperparameters(builder: ast.FunctionDef) -> str | None:
    """The one argument of __init__, or else attribute of self, on which it reads known hyper-parameters."""
    holders = {dotted(node.value) for node in ast.walk(builder)
               if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in HYPERPARAMETERS}  # fmt: skip
    arguments = holders & {argument.arg for argument in (*builder.args.args[1:], *builder.args.kwonlyargs)}
    attributes = {holder for holder in holders if holder.startswith("self.") and holder.count(".") == 1}
    found = arguments or attributes
    return found.pop() if len(found) == 1 else None
