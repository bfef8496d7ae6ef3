"""The files a run writes about itself: log.jsonl and log.txt for figures, events.jsonl for what went wrong."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vdvae.records.jsonl import append_whole

if TYPE_CHECKING:
    from vdvae.records.tensorboard import TensorBoard

LOG_FILE, TEXT_FILE, EVENTS_FILE = "log.jsonl", "log.txt", "events.jsonl"
FINISHED_FILE = "finished.json"  # in the run's folder once it has reached its end


class RunLogger:
    """Appends JSON lines to a run folder and prints them, on the main rank; does nothing on the others.

    The keys of the lines are those of the original code, with NaN and Infinity as Python's json writes them. What is
    printed leaves out hyper-parameters, lists and zeros; log.txt has everything. `board` gets the same records.

    A line for which the disk has no room is left out whole and counted in `lost`; the first one is reported on stderr.
    """

    def __init__(self, folder: Path, is_main: bool = True, board: "TensorBoard | None" = None):
        self.folder, self.is_main, self.board = folder, is_main, board
        self.lost = 0

    def __call__(self, message: str | None = None, **record) -> None:
        """Write one line: free text as `message`, or a record such as type="train_loss", step=100, elbo=2.1."""
        if not self.is_main:
            return
        line = {"time": time.ctime(), **({"message": message} if message is not None else {}), **record}
        self._append(LOG_FILE, json.dumps(line))
        self._append(TEXT_FILE, _as_text(line))
        self._copy("record", record)
        if record.get("type") != "hparam":
            shown = {key: value for key, value in record.items() if value != 0 and not isinstance(value, list)}
            tqdm.write(message or _as_text(shown))

    def sheet(self, path: Path, step: int) -> None:
        """Write where a sample sheet is, and give it to the board."""
        self(f"samples: {path}")
        self._copy("sheet", path, step)

    def event(self, **record) -> None:
        """Write one line to events.jsonl."""
        if self.is_main:
            self._append(EVENTS_FILE, json.dumps({"time": time.ctime(), **record}))

    def _append(self, name: str, line: str) -> None:
        try:
            append_whole(self.folder / name, (line + "\n").encode())
        except OSError as error:
            if not self.lost:
                print(f"error: a line of {name} could not be written, training continues: {error}", file=sys.stderr)
            self.lost += 1

    def _copy(self, method: str, *arguments) -> None:
        """Call a method of the board; if its files cannot be written, say so once and use no board from then on."""
        try:
            if self.board:
                getattr(self.board, method)(*arguments)
        except OSError as error:
            print(f"error: TensorBoard's files could not be written, the run continues without them: {error}", file=sys.stderr)
            self.board = None


def _as_text(line: dict) -> str:
    return ", ".join(f"{key}: {value:.5f}" if isinstance(value, float) else f"{key}: {value}"
                     for key, value in line.items())
