"""What the rewrites work on: a checkout's syntax trees, and the things in them that could not be matched."""

from collections.abc import Mapping
from dataclasses import dataclass

import libcst as cst

Sources = Mapping[str, cst.Module]  # every .py file of the checkout, by its path relative to the checkout, with slashes


@dataclass(frozen=True)
class Problem:
    """A place that could not be matched, and what to do there by hand. `line` is 0 where there is no place."""

    path: str
    line: int
    what: str
    code: str
    by_hand: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        shown = "".join(f"\n    | {line}" for line in self.code.splitlines())
        return f"{place}: {self.what}{shown}\n    by hand: {self.by_hand}"


class CannotPatch(Exception):
    """The checkout differs too much; `problems` says where and what to do."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
