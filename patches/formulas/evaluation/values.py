"""What expressions evaluate to: a tensor of one number, or a shape, dtype or device whose value does not matter."""

from dataclasses import dataclass


@dataclass(eq=False)
class Tensor:
    """One element of a tensor. Names share it as they share a tensor, so an operation in place is seen by all."""

    value: float


@dataclass(frozen=True)
class Opaque:
    what: str  # "shape", "dtype" or "device"


@dataclass(frozen=True)
class Gaussian:
    """torch.distributions.Normal"""

    loc: Tensor | float
    scale: Tensor | float


@dataclass(frozen=True)
class Note:
    """Something that was passed over, and that the caller has to weigh. `line` counts from the line of the def."""

    line: int
    what: str
    gradient: bool = False  # it leaves values alone, and only keeps a gradient from flowing

    def __str__(self) -> str:
        return f"{self.what} (line {self.line})"


class Unknown(Exception):
    """A construct that cannot be evaluated; `line` counts from the line of the def, 0 where there is none."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(f"{what} (line {line})" if line else what)
        self.what, self.line = what, line


def number(value: object) -> float:
    """The number in a tensor or a plain number; Unknown for all else."""
    if isinstance(value, Tensor):
        return value.value
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            raise Unknown("has a number that no float holds") from None
    raise Unknown("computes with something that is no number")
