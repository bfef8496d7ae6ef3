"""The state of an unfinished training on disk, so that an interrupted program goes on where it was."""

import json
import pickle
import time
import zipfile
from pathlib import Path

import torch

SAVE_SECONDS = 120.0  # between two saves, at the least
_UNREADABLE = (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError,
               zipfile.BadZipFile)


class StateFile:
    """One file, written at the ends of epochs if SAVE_SECONDS have passed, read at the start, removed at the end.

    `identity` is what makes the training the same one: its settings and members, as JSON.
    """

    def __init__(self, path: Path, identity: dict):
        self.path, self.identity = path, json.dumps(identity, sort_keys=True)
        self.saved = time.monotonic()

    def load(self, device: str) -> dict | None:
        """What was saved last, on `device`; None if there is no file.

        Raises ValueError naming the file when it is damaged or of another training. No code in it is run.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location=device, weights_only=True)
            identity, state = content["identity"], content["state"]
        except _UNREADABLE as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{self.path} is damaged, remove it to begin anew: {reason}") from error
        if identity != self.identity:
            raise ValueError(f"{self.path} is of an unfinished training of {identity}, now {self.identity}: "
                             "finish that one, remove the file, or name another --out")
        return state

    def save_if_due(self, state: dict) -> None:
        """Write `state`, nested dicts and lists of tensors and numbers; it replaces the last one when complete."""
        if time.monotonic() - self.saved < SAVE_SECONDS:
            return
        partial = self.path.with_name(self.path.name + ".partial")
        torch.save({"identity": self.identity, "state": state}, partial)
        partial.replace(self.path)
        self.saved = time.monotonic()

    def remove(self) -> None:
        """The training has ended and its results are elsewhere."""
        self.path.unlink(missing_ok=True)
