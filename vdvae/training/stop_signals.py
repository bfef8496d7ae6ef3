"""Signals that ask a run to stop: the first lets the step end and the state be saved, the second ends at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Listener(Protocol):
    """What hears a signal."""

    def receive(self, number: int, frame: object = None) -> None:
        """Called with the signal's number."""


Request = TypeVar("Request", bound=Listener)


class StopRequest:
    """`name` of the signal that this process received, None so far."""

    def __init__(self) -> None:
        self.name: str | None = None

    def receive(self, number: int, frame: object = None) -> None:
        """Remember the first signal; on the second leave the process with exit code 128 + its number."""
        if self.name is not None:
            os._exit(128 + number)
        self.name = signal.Signals(number).name


@contextmanager
def listening(request: Request) -> Iterator[Request]:
    """`request`, whose `receive` hears the signals while the block runs; in the main thread."""
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
