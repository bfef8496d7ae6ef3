"""Signals that ask a run to stop: the first lets the step end and the state be saved, the second ends at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """`name` of the signal that this process received, None so far."""

    def __init__(self) -> None:
        self.name: str | None = None

    def receive(self, number: int, frame: object = None) -> None:
        """Remember the first signal; on the second leave the process with exit code 128 + its number.

        A SIGHUP is not counted, as a terminal that closes sends several.
        """
        name = signal.Signals(number).name
        if name == "SIGHUP":
            self.name = self.name or name
        elif self.name in (None, "SIGHUP"):
            self.name = name
        else:
            os._exit(128 + number)


@contextmanager
def listening(request: Any) -> Iterator[Any]:
    """While the block runs, in the main thread, call `request.receive` with each signal's number and frame.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    heard = [each for each in SIGNALS if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, request.receive) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
