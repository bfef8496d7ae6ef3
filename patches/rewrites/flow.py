"""Follows the outputs of a method's networks: which piece of which output an expression is."""

import ast
from collections import Counter
from dataclasses import dataclass, replace
from functools import reduce

from patches.code.names import dotted

CONVERSIONS = {"float", "contiguous", "double", "half", "to", "clone", "type_as", "cpu", "cuda"}
SHAPES = {"shape", "dtype", "device", "ones_like", "zeros_like", "empty_like", "randn_like", "size", "len"}
Size = tuple[tuple[str, int], ...]  # a number of channels as a sum: zdim * 2 + 1 is (("", 1), ("zdim", 2))


@dataclass(frozen=True)
class Piece:
    """Channels `low` to `high` of an output along an axis; to the last one if `high` is None.

    `root` is the dotted name of what was called, such as `self.prior`. The piece is `fresh` until it has a name, and until
    something is added to it that no network gave.
    """

    root: str
    axis: int
    low: Size
    high: Size | None
    fresh: bool = True

    def key(self) -> "Piece":
        return replace(self, fresh=False)

    def is_apart(self, other: "Piece") -> bool:
        """Whether the two have no channel in common, whatever the numbers of channels are."""
        is_apart = _at_most(self.high, other.low) or _at_most(other.high, self.low)
        return self.root != other.root or self.axis == other.axis and is_apart


@dataclass(frozen=True)
class Output:
    """All that a call on self returns, or, with `parts`, a sequence of pieces of it."""

    root: str
    parts: tuple[Piece, ...] = ()


PLAIN, OWN = "plain", "own"  # a value that no network gives, such as a temperature; an attribute of self, maybe a weight
Value = Output | Piece | str | None  # None for any other value


class Flow:
    """What the expressions of a method are."""

    def __init__(self, method: ast.FunctionDef) -> None:
        self.values: dict[ast.AST, Value] = {}
        self.bound: list[tuple[ast.stmt, str, Piece]] = []  # the statements that give a name to a fresh piece
        self.open: dict[ast.AST, Output | Piece] = {}  # fresh pieces without a name, and outputs that are used as a whole
        self.set_in: dict[str, ast.stmt] = {}  # the last statement that sets a name
        self.sizes: dict[str, ast.expr] = {}  # local names that may be numbers of channels
        self.names: dict[str, Value] = dict.fromkeys(_network_inputs(method))
        self._run(method.body)

    def _run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Assign(targets, value) | ast.AnnAssign(target=ast.Name() as targets, value=ast.expr() as value):
                    self._visit(value)
                    for target in targets if isinstance(targets, list) else [targets]:
                        self._bind(statement, target, value)
                case ast.AugAssign(ast.Name(name), operation, value):
                    self.names[name] = self._sum(operation, self.names.get(name, PLAIN), self._visit(value))
                    self.set_in[name] = statement
                case ast.AugAssign(target):
                    self._change(target)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    pass
                case _:
                    self._compound(statement)

    def _compound(self, node: ast.stmt) -> None:
        """Runs each block of a statement from the same start; a loop's twice, for what it carries over."""
        for each in [*ast.iter_child_nodes(node), *(item.context_expr for item in getattr(node, "items", []))]:
            if isinstance(each, ast.withitem) and each.optional_vars:
                self._bind(node, each.optional_vars, None)
            if isinstance(each, ast.expr) and not isinstance(getattr(each, "ctx", None), ast.Store):
                self._visit(each)
                if isinstance(node, ast.Expr):
                    self.open.pop(each, None)
        blocks = [each.body for each in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]]
        if isinstance(node, ast.With | ast.Try):
            self._run(node.body)
        elif hasattr(node, "body"):
            blocks.append(node.body)
        is_loop, start = isinstance(node, ast.For | ast.While), self.names
        ends = [] if isinstance(node, ast.If) else [start]
        for block in [*blocks, *blocks * is_loop, getattr(node, "orelse", [])]:
            self.names = dict(reduce(_join, ends) if is_loop else start)
            if isinstance(node, ast.For):
                self._bind(node, node.target, None)
            self._run(block)
            ends.append(self.names)
        self.names = reduce(_join, ends)
        self._run(getattr(node, "finalbody", []))

    def _bind(self, statement: ast.AST, target: ast.expr, code: ast.expr | None, value: Value = None) -> None:
        """Gives the value of an expression, or else `value`, to a name or to several."""
        value = self.values[code] if code else value
        if isinstance(target, ast.Name):
            if isinstance(value, Piece) and value.fresh:
                self.bound.append((statement, target.id, value.key()))
                value = value.key()
            if code:
                self.sizes[target.id] = code
            self.names[target.id], self.set_in[target.id] = value, statement
        elif isinstance(target, ast.Tuple | ast.List):
            parts = target.elts[:-1] if ast.unparse(target.elts[-1]) == "*_" else target.elts
            is_each = isinstance(code, ast.Tuple | ast.List) and len(code.elts) == len(parts)
            is_known = is_each or all(isinstance(part, ast.Name | ast.Tuple | ast.List) for part in parts)
            for index, part in enumerate(parts):
                part = part.value if isinstance(part, ast.Starred) else part
                self._bind(statement, part, code.elts[index] if is_each else None, _item(value, index) if is_known else None)
            if not is_known or isinstance(value, Piece):
                return
        else:
            return self._change(target)
        self.open.pop(code, None)

    def _change(self, target: ast.expr) -> None:
        if isinstance(target, ast.Subscript) and isinstance(self.names.get(name := dotted(target.value)), Output):
            self.names[name] = None  # what is changed in part is no output any more

    def _visit(self, node: ast.expr) -> Value:
        value = getattr(self, f"_visit_{type(node).__name__}", self._visit_any)(node)
        self.values[node] = value = _joined(self.values.get(node, value), value)
        if isinstance(value, Output) or isinstance(value, Piece) and value.fresh:
            self.open[node] = value
        return value

    def _visit_any(self, node: ast.expr) -> Value:
        names = dict(self.names)
        for inner in getattr(node, "generators", []):
            self._visit(inner.iter)
            self._bind(node, inner.target, None)
        values = [self._visit(each) for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        self.names = names if hasattr(node, "generators") else self.names
        return PLAIN if all(value == PLAIN for value in values) else None

    def _visit_Name(self, node: ast.Name) -> Value:
        return self.names.get(node.id, PLAIN)

    def _visit_NamedExpr(self, node: ast.NamedExpr) -> Value:
        value = self._visit(node.value)  # a fresh piece is converted where it is cut
        self.names[node.target.id] = value.key() if isinstance(value, Piece) else value
        return self.names[node.target.id]

    def _visit_IfExp(self, node: ast.IfExp) -> Value:
        self._visit(node.test)
        value = _joined(self._visit(node.body), self._visit(node.orelse))
        return value.key() if isinstance(value, Piece) else value

    def _visit_Attribute(self, node: ast.Attribute) -> Value:
        owner, is_own = self._visit(node.value), dotted(node).startswith("self.")
        if node.attr in SHAPES:
            self.open.pop(node.value, None)
            return PLAIN
        return OWN if is_own else PLAIN if owner == PLAIN else None

    def _visit_BinOp(self, node: ast.BinOp) -> Value:
        return self._sum(node.op, self._visit(node.left), self._visit(node.right))

    def _sum(self, operation: ast.operator, left: Value, right: Value) -> Value:
        """A piece stays one if a value is added that no network gives."""
        if isinstance(right, Piece) and isinstance(operation, ast.Add):
            left, right = right, left
        if isinstance(left, Piece) and right == PLAIN and isinstance(operation, ast.Add | ast.Sub):
            return left.key()
        return PLAIN if left == right == PLAIN else None

    def _visit_Subscript(self, node: ast.Subscript) -> Value:
        owner = self._visit(node.value)
        self._visit_any(node.slice)
        if isinstance(owner, Output):
            is_item = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)
            piece = _item(owner, node.slice.value) if is_item else self._slice(owner, node.slice)
            if piece:
                self.open.pop(node.value, None)
            return piece
        return PLAIN if owner == PLAIN else None

    def _visit_Call(self, node: ast.Call) -> Value:
        given = [self._visit(each) for each in [*node.args, *(word.value for word in node.keywords)]]
        owner = self._visit(node.func.value) if isinstance(node.func, ast.Attribute) else PLAIN
        name, last = dotted(node.func), _last(node)
        if name.startswith("self."):
            self.values[node.func] = None
            return Output(name.removesuffix(".forward"))
        if last in SHAPES or last.startswith("log") and all(value in (PLAIN, OWN) for value in [owner, *given]):
            for each in [*node.args, getattr(node.func, "value", None)]:
                self.open.pop(each, None)
            return PLAIN
        if last in CONVERSIONS and isinstance(owner, Output | Piece):
            self.open.pop(node.func.value, None)
            return owner
        if last in ("chunk", "split"):
            whole, *arguments = node.args if owner == PLAIN else [node.func.value, *node.args]
            words = {word.arg: word.value for word in node.keywords}
            return self._parts(whole, [*arguments, *words.values()], last)
        return PLAIN if all(value == PLAIN for value in [owner, *given]) else None

    def _parts(self, whole: ast.expr, arguments: list[ast.expr], kind: str) -> Value:
        """The pieces of chunk(count, axis) or split(size or sizes, axis)."""
        output = self.values.get(whole)
        if not isinstance(output, Output) or output.parts or len(arguments) != 2:
            return None
        sizes, axis = arguments
        if kind == "chunk":
            sizes = [ast.Name(f"chunk {ast.unparse(sizes)}")] * (sizes.value if isinstance(sizes, ast.Constant) else 0)
        sizes = sizes if isinstance(sizes, list) else getattr(sizes, "elts", [sizes] * 4)
        pieces, low = [], ()
        for size in sizes:
            number = self._size(size)
            if (number is None and size is not sizes[-1]) or not isinstance(axis, ast.Constant | ast.UnaryOp):
                return None
            high = None if number is None else _total(low, number)
            pieces.append(Piece(output.root, ast.literal_eval(axis), low, high))
            low = high
        self.open.pop(whole, None)
        return Output(output.root, tuple(pieces))

    def _slice(self, output: Output, index: ast.expr) -> Piece | None:
        """The channels that a subscript cuts out; None for any other subscript."""
        elements = list(index.elts) if isinstance(index, ast.Tuple) else [index]
        codes = [ast.unparse(each) for each in elements]
        cuts = [at for at, code in enumerate(codes) if code not in (":", "...")]
        if output.parts or len(cuts) != 1 or not isinstance(cut := elements[cuts[0]], ast.Slice) or cut.step:
            return None
        low, high = self._size(cut.lower) if cut.lower else (), self._size(cut.upper) if cut.upper else None
        axis = cuts[0] - len(elements) if "..." in codes[: cuts[0]] else cuts[0]
        return None if low is None or (cut.upper and high is None) else Piece(output.root, axis, low, high)

    def _size(self, node: ast.expr) -> Size | None:
        match node:
            case ast.Constant(int(number)):
                return (("", number),) if number else ()
            case ast.Name(name) if isinstance(self.sizes.get(name), ast.Attribute):
                return self._size(self.sizes[name])
            case ast.Name() | ast.Attribute() if name := dotted(node):
                return ((name.split(".")[-1], 1),)  # self.zdim is H.zdim
            case ast.BinOp(left, ast.Add(), right) if (a := self._size(left)) is not None and (b := self._size(right)) is not None:
                return _total(a, b)
            case ast.BinOp(ast.Constant(int(factor)), ast.Mult(), other) | ast.BinOp(other, ast.Mult(), ast.Constant(int(factor))):
                size = self._size(other)
                return None if size is None else tuple((name, factor * number) for name, number in size)
        return None


def _total(one: Size, other: Size) -> Size:
    return tuple(sorted((Counter(dict(one)) + Counter(dict(other))).items()))


def _at_most(one: Size | None, other: Size) -> bool:
    return one is not None and all(number <= dict(other).get(name, 0) for name, number in one)


def _item(value: Value, index: int) -> Value:
    if isinstance(value, Output) and value.parts:
        return value.parts[index] if index < len(value.parts) else None
    if isinstance(value, Output):  # a network that returns a tuple
        return Piece(value.root, -99, (("item", index),), (("item", index + 1),))
    return PLAIN if value == PLAIN else None


def _last(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else dotted(call.func)


def _network_inputs(method: ast.FunctionDef) -> set[str]:
    """self, and the method's arguments that go into calls on self. Temperatures are left out: their logarithm is taken."""
    inputs, nodes = {"self"}, list(ast.walk(method))
    logs = {node for call in nodes if isinstance(call, ast.Call) and _last(call).startswith("log") for node in ast.walk(call)}
    for call in nodes:
        if isinstance(call, ast.Call) and dotted(call.func).startswith("self."):
            inputs |= {node.id for each in call.args for node in ast.walk(each) if isinstance(node, ast.Name) and node not in logs}
    return inputs & {argument.arg for argument in (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)}


def _joined(one: Value, other: Value) -> Value:
    """The value after two branches."""
    if isinstance(one, Piece) and isinstance(other, Piece) and one.key() == other.key():
        return one if one == other else one.key()
    return one if one == other else None


def _join(one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    both = {**one, **other}
    return {name: _joined(one.get(name, value), other.get(name, value)) for name, value in both.items()}
