"""What is to be done to one file of a checkout."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """`path` is relative to the checkout, with slashes; `before` is None for a file that is created."""

    path: str
    before: bytes | None
    after: bytes
    description: str

    @property
    def created(self) -> bool:
        return self.before is None
