"""Log lines of one kind as columns of numbers: each field is checked once, and a million lines fit into memory."""

import json
import math
import re
from array import array
from collections.abc import Callable
from dataclasses import fields
from operator import call
from typing import Literal, get_args, get_origin

import numpy as np

from vdvae.records.lines import printable
from vdvae.records.typed import hints, typed

_WHOLE = "0|[1-9][0-9]{0,14}+"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,14}+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+|NaN|-?Infinity"
_TEXT = r"[ !#-\[\]-~]*+"
_CONSTANTS = {"": math.nan, "null": math.nan, "true": 1.0, "false": 0.0}
_MOST_LAYOUTS = 8


class _Words(dict):
    """Words to the numbers that stand for them; `spelled` has the words in order."""

    def __init__(self):
        self.spelled: list[str] = []

    def __missing__(self, word: str) -> float:
        self.spelled.append(word)
        return self.setdefault(word, float(len(self)))


class Columns:
    """The fields of a dataclass of lines.py, from all lines that were added.

    `columns["step"]` is float64 [lines]: NaN where the field is absent or null, 1 for true, and for a word the number of it.
    """

    def __init__(self, kind: type):
        self.kind, self.names = kind, [field.name for field in fields(kind)]
        self.words = _Words()
        self._numbers, self._absent, self._layouts = array("d"), array("b"), []

    def __len__(self) -> int:
        return len(self._numbers) // len(self.names)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._numbers).reshape(-1, len(self.names))[:, self.names.index(name)]

    def absent(self, name: str) -> np.ndarray:
        """Whether the field is absent or null, bool [lines]."""
        return np.asarray(self._absent).view(bool).reshape(-1, len(self.names))[:, self.names.index(name)]

    def is_word(self, name: str, word: str) -> np.ndarray:
        """Whether the field is `word`, bool [lines]."""
        return self[name] == self.words.get(word, -1)

    def value(self, name: str, line: int) -> str | int | None:
        """A field that is a word or a whole number; None if it is absent or null."""
        if self.absent(name)[line]:
            return None
        number = int(self[name][line])
        return number if hints(self.kind)[name] in (int, int | None) else self.words.spelled[number]

    def groups(self, lines: np.ndarray, *names: str) -> list[np.ndarray]:
        """Those of `lines` with equal fields together, the largest group first; of equal ones the one whose first line is first."""
        keys = [np.where(self.absent(name)[lines], -1, self[name][lines]) for name in names]
        order = np.lexsort(keys)
        begins = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
        groups = np.split(lines[order], np.flatnonzero(begins) + 1) if len(lines) else []
        return sorted(groups, key=lambda group: (-len(group), group[0]))

    def take(self, line: bytes) -> bool:
        """Add a line that is written like one that was added before; False, and nothing is added, if there was none."""
        text = line.decode("latin-1")  # patterns match ASCII alone
        for pattern, groups, numbers, absent in self._layouts:
            if match := pattern.fullmatch(text):
                self._numbers.extend(map(call, numbers, match.group(*groups)))
                self._absent.frombytes(absent)
                return True
        return False

    def add(self, record: dict, line: bytes) -> None:
        """Add a line whose content is `record`; raises ValueError that names the field that is wrong."""
        values = vars(typed(self.kind, record, ignore_unknown=True)).values()
        self._numbers.extend([self.words[printable(value)] if isinstance(value, str) else math.nan if value is None else value
                              for value in values])
        absent = bytes(value is None for value in values)
        self._absent.frombytes(absent)
        if len(self._layouts) < _MOST_LAYOUTS and line == json.dumps(record).encode() + b"\n":
            self._layouts.append((*self._layout(record), absent))

    def _layout(self, record: dict) -> tuple[re.Pattern, list[int], list[Callable[[str], float]]]:
        """A pattern of such lines, three times as fast as JSON, the group of each field, and what makes a number of the group."""
        found = {key: self._value(key, value) for key, value in record.items()}
        missing = "".join(f"(?P<{name}>)" for name in self.names if name not in found)
        content = ", ".join(f"{re.escape(json.dumps(key))}: {pattern}" for key, (pattern, _) in found.items())
        pattern = re.compile(rf"\{{{content}\}}\n{missing}")
        numbers = [found[name][1] if name in found else _CONSTANTS.__getitem__ for name in self.names]
        return pattern, [pattern.groupindex[name] for name in self.names], numbers

    def _value(self, key: str, value: object):
        """The pattern of a value, and what makes a number of its group."""
        kind = hints(self.kind).get(key)
        if isinstance(value, str) and kind:
            words = "|".join(get_args(kind)) if get_origin(kind) is Literal else _TEXT
            return f'"(?P<{key}>{words})"', self.words.__getitem__
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            pattern, number = _WHOLE if kind in (int, int | None) else _NUMBER, float
        else:
            pattern, number = f'"{_TEXT}"' if key == "time" else re.escape(json.dumps(value)), _CONSTANTS.__getitem__
        return f"({f'?P<{key}>' if kind else '?:'}{pattern})", number
