"""A Python file: its bytes, its syntax tree, and edits of its text that leave every other byte alone."""

import ast
import io
import re
import textwrap
import tokenize
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from patches.problems import CheckoutError, Problem


class Edit(NamedTuple):
    """`text` in the place of the bytes from `start` to `end` of a file's text in UTF-8."""

    path: str
    start: int
    end: int
    text: str


class Source:
    """`path` is relative to the checkout, with slashes. Raises CheckoutError, with file and line, for other than Python 3."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path, self.data = path, data
        try:
            self.encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            self.text = data.decode(self.encoding)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about escapes in the user's strings
                self.tree = ast.parse(data)
        except (SyntaxError, LookupError, ValueError, RecursionError, MemoryError) as error:
            is_coding, lines = isinstance(error, UnicodeDecodeError), re.split(rb"\r\n|\r|\n", data)
            line = len(data[:error.start].split(b"\n")) if is_coding else min(getattr(error, "lineno", None) or 1, len(lines))
            what = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
            shown = lines[line - 1].decode(errors="replace").rstrip()
            raise CheckoutError(f"{path}:{line}: syntax error: {what}\n    | {shown}\n    only Python 3 is read, in UTF-8 or with "
                                "its encoding in the first line: correct it, or move the file out of the tree") from None

    @cached_property
    def lines(self) -> list[str]:
        """The lines with their ends."""
        return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", self.text)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(line.encode()) for line in self.lines)]

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node around each node."""
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    def above(self, node: ast.AST) -> list[ast.AST]:
        """The nodes around a node, the innermost first."""
        found = []
        while node := self.parents.get(node):
            found.append(node)
        return found

    def scope(self, node: ast.AST) -> ast.AST:
        """The innermost function, class or module around a node."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
        return next(each for each in self.above(node) if isinstance(each, kinds))

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that holds the node, or is it."""
        return next(each for each in [node, *self.above(node)] if isinstance(each, ast.stmt))

    def code(self, node: ast.AST) -> str:
        """A node's code; whole lines, without their indentation, for a statement."""
        if not isinstance(node, ast.stmt):
            return ast.get_source_segment(self.text, node)
        return textwrap.dedent("".join(self.lines[node.lineno - 1:node.end_lineno])).strip()

    def problem(self, node: ast.AST, what: str, by_hand: str) -> Problem:
        return Problem(self.path, node.lineno, what, self.code(node), by_hand)

    def replace(self, node: ast.AST, code: str) -> Edit:
        return Edit(self.path, self._starts[node.lineno - 1] + node.col_offset, self._end(node), code)

    def after(self, statement: ast.stmt, code: str) -> Edit:
        """A statement on the line below another, or behind a semicolon where that one shares its line."""
        line = self.lines[statement.end_lineno - 1].encode()
        behind, before = line[statement.end_col_offset:].strip(), self._before(statement)
        if before.strip() or (behind and not behind.startswith(b"#")):
            return Edit(self.path, self._end(statement), self._end(statement), f"; {code}")
        return self._new_line(statement.end_lineno, before + code)

    def before(self, statement: ast.stmt, code: str) -> Edit:
        """A statement above another one and above its comments."""
        ends = {node.end_lineno for node in self.nodes if isinstance(node, ast.stmt)}
        number = statement.lineno - 1
        while number and number not in ends and re.match(r"\s*(#|$)", self.lines[number - 1]):
            number -= 1
        return self._new_line(number, self._before(statement) + code)

    def add_import(self, code: str, before: int | None = None) -> Edit:
        """An import below the last one at the top of the file; above the statement of that number if one is given."""
        number, body = 0, self.tree.body
        for index, statement in enumerate(body[:before]):
            if _ends_imports(statement):
                break
            is_docstring = index == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_docstring or any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(statement)):
                number = statement.end_lineno
        if number == 0 and body:
            number = min(node.lineno for node in [body[0], *getattr(body[0], "decorator_list", [])]) - 1
        return self._new_line(number, code)

    def _new_line(self, number: int, code: str) -> Edit:
        """A line below the line of that number."""
        ends = [re.search(r"(\r\n|\r|\n)?$", line)[0] for line in (self.lines[number - 1:number] or [""])+ self.lines[:1]]
        newline = next(filter(None, ends), "\n")
        text = code + newline if ends[0] or not number else newline + code
        return Edit(self.path, self._starts[number], self._starts[number], text)

    def _before(self, statement: ast.stmt) -> str:
        return self.lines[statement.lineno - 1].encode()[:statement.col_offset].decode()

    def _end(self, node: ast.AST) -> int:
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """The file's bytes with the edits, which must not overlap; at one place they keep their order."""
        old, parts, done = self.text.encode(), [], 0
        for edit in sorted(dict.fromkeys(edits), key=lambda edit: edit.start):
            parts += [old[done:edit.start], edit.text.encode()]
            done = edit.end
        return b"".join([*parts, old[done:]]).decode().encode(self.encoding)


Sources = Mapping[str, Source]  # by path


def _ends_imports(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.For | ast.While | ast.With)
