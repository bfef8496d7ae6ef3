"""stdout and stderr that cannot be written do not end a run: closed, on a full disk, or read by nobody any more."""

import os
import sys
from contextlib import suppress
from typing import TextIO


class _Lossy:
    """A stream that loses what cannot be written."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def ignore_output_errors(*_: object) -> None:
    """From now on nothing that this process writes to stdout or stderr raises an error.

    A stream that was closed when the process began is opened on os.devnull, before another file gets its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name) or open(os.devnull, mode)
        setattr(sys, name, stream if name == "stdin" else _Lossy(stream))
