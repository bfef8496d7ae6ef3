"""What the plugin says: places that it cannot match, and checkouts that it refuses."""

from dataclasses import dataclass


class CheckoutError(Exception):
    """The checkout is refused, and the message says which file and why. Nothing was written unless it says so."""


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
        shown = "".join(f"\n    | {line}" for line in self.code.splitlines()[:6])
        return f"{place}: {self.what}{shown}\n    by hand: {self.by_hand}"


class CannotPatch(Exception):
    """The checkout differs too much from the original; `problems` says where, and what to do."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class NotVdvae(CannotPatch):
    """No class calls a KL, and so nothing else that differs from the original matters."""
