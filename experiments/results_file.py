"""Results as JSON lines that survive an interruption: the settings, then one line for each finished cell."""

import json
import os
from collections.abc import Sequence
from pathlib import Path


class ResultsFile:
    """The records of an experiment in the file `path`, made with `settings` if it is not there.

    `done` maps the keys of finished cells, tuples of strings and numbers, to their records. A last line that was cut
    off in mid-write is dropped, so that its cell is done again. Raises ValueError for a file of other settings, naming
    what differs, and for one that is damaged, naming the line; neither is changed.
    """

    def __init__(self, path: Path, settings: dict):
        self.path, self.done = Path(path), {}
        if not self.path.exists():
            self._append({"settings": settings})
            return
        lines, whole = _read(self.path)
        self._check_settings(lines[0] if lines else None, settings)
        for number, line in enumerate(lines[1:], start=2):
            if not (isinstance(line, dict) and isinstance(line.get("key"), list) and "record" in line):
                raise ValueError(f"{self.path}, line {number}: not a result, which has a key and a record")
            self.done[tuple(line["key"])] = line["record"]
        os.truncate(self.path, whole)

    def add(self, key: Sequence, record: dict) -> None:
        """Append one finished cell and flush it to disk."""
        self._append({"key": list(key), "record": record})
        self.done[tuple(key)] = record

    def _append(self, line: dict) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _check_settings(self, first: object, settings: dict) -> None:
        if not (isinstance(first, dict) and isinstance(first.get("settings"), dict)):
            raise ValueError(f"{self.path}, line 1: not the settings of an experiment")
        saved, wanted = first["settings"], json.loads(json.dumps(settings))
        differing = [f"{name} {saved.get(name)!r}, now {wanted.get(name)!r}"
                     for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
        if differing:
            raise ValueError(f"{self.path} has results with {'; '.join(differing)}: give the values it has, or name "
                             "another folder")


def _read(path: Path) -> tuple[list, int]:
    """The lines as objects, and the bytes up to the end of the last whole one; raises ValueError for a damaged line."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = []
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            lines.append(json.loads(line.decode()))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {line[:60]!r}") from error
    return lines, whole
