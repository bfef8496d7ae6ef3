"""What an experiment keeps on disk, so that the same command continues it after an interruption."""

import json
import os
import pickle
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vdvae.data.files import written_whole
from vdvae.records.jsonl import parse_line, read_lines

SAVE_SECONDS = 120.0  # the least time between two saves of a state
_UNREADABLE = (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError,
               zipfile.BadZipFile)


class ResultsFile:
    """The records of an experiment as JSON lines in `path`: its `settings` first, then a line for each finished cell.

    `done` maps the keys of finished cells, tuples of strings and numbers, to their records. A last line without an end,
    which an interruption leaves, is removed: its cell is computed again. Raises ValueError for a file of other settings,
    naming the difference, and for a damaged file, naming the line; it changes neither.
    """

    def __init__(self, path: Path, settings: dict):
        self.path, self.done = Path(path), {}
        if not self.path.exists():
            self._append({"settings": settings})
            return
        content = self.path.read_bytes()
        lines = []
        read_lines(self.path, lambda line: lines.append(parse_line(line)))
        del lines[content.count(b"\n"):]
        self._check_settings(lines[0] if lines else {}, settings)
        for number, line in enumerate(lines[1:], start=2):
            if not (isinstance(line.get("key"), list) and "record" in line):
                raise ValueError(f"{self.path}, line {number}: not a result, which has a key and a record")
            self.done[tuple(line["key"])] = line["record"]
        os.truncate(self.path, content.rfind(b"\n") + 1)

    def add(self, key: Sequence, record: dict) -> None:
        """Append one finished cell and flush it to disk."""
        self._append({"key": list(key), "record": record})
        self.done[tuple(key)] = record

    def _append(self, line: dict) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _check_settings(self, first: dict, settings: dict) -> None:
        if not isinstance(first.get("settings"), dict):
            raise ValueError(f"{self.path}, line 1: not the settings of an experiment")
        saved, wanted = first["settings"], json.loads(json.dumps(settings))
        differing = [f"{name} {saved.get(name)!r}, now {wanted.get(name)!r}"
                     for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
        if differing:
            raise ValueError(f"{self.path} has results with {'; '.join(differing)}: give the values it has, or name "
                             "another folder")


class StateFile:
    """The state of an unfinished training, written at most every SAVE_SECONDS and removed at the end.

    `identity` are the settings and members of the training, as JSON: with another identity it is another training.
    """

    def __init__(self, path: Path, identity: dict):
        self.path, self.identity = path, json.dumps(identity, sort_keys=True)
        self.saved = time.monotonic()

    def load(self, device: str) -> dict | None:
        """The last saved state, on `device`; None if there is no file.

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
                             "finish that training, remove the file, or name another --out")
        return state

    def save_if_due(self, state: dict) -> None:
        """Write `state`, nested dicts and lists of tensors and numbers; the old file stays until the new one is whole."""
        if time.monotonic() - self.saved < SAVE_SECONDS:
            return
        with written_whole(self.path) as partial:
            torch.save({"identity": self.identity, "state": state}, partial)
        self.saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file when the training has ended and its results are saved."""
        self.path.unlink(missing_ok=True)


def json_numbers(values: Tensor) -> list:
    """Nested lists of numbers to 6 digits; NaN and infinities as the strings that float() reads."""
    if values.ndim:
        return [json_numbers(value) for value in values]
    return float(f"{values.item():.6g}") if values.isfinite() else str(values.item())
