"""Signals that ask a run to stop: the first lets the step end and the state be saved, the second ends at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


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
def listening(request: Any) -> Iterator[Any]:
    """While the block runs, in the main thread, call `request.receive` with each signal's number and frame."""
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
