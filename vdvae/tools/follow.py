"""Watch a running log in the terminal: what `python -m vdvae.inspect RUN --follow` shows."""

import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from vdvae.records.jsonl import parse_line
from vdvae.records.log import EVENTS_FILE, FINISHED_FILE, LOG_FILE
from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import parameterization

SECONDS = 1.0  # between looks
BARS = "▁▂▃▄▅▆▇█"
_CURVE, _LAST_EVENTS, _BLOCKS = 60, 5, 8


class Tail:
    """The records that are appended to a JSON-lines file; each is read once."""

    def __init__(self, path: Path):
        self.path, self.offset = path, 0

    def news(self) -> list[dict] | None:
        """The records since the last call, none if there is no file; None if the file became shorter: then read all again.

        A last line without its end is read in a later call. Lines that are not JSON objects are left out; inspect names them.
        """
        if not self.path.exists():
            return []
        if self.path.stat().st_size < self.offset:
            self.offset = 0
            return None
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self.offset += len(whole + end)
        return [record for record in map(_parsed, whole.splitlines()) if isinstance(record, dict)]


class Watch:
    """What the logs of a run say so far."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.logs = {name: Tail(folder / name) for name in (LOG_FILE, EVENTS_FILE)}
        self._forget()

    def look(self) -> list[dict]:
        """Read what was appended; returns the new records of the log, or all of them after --resume has cut the logs."""
        news = {name: tail.news() for name, tail in self.logs.items()}
        if None in news.values():
            self._forget()
            for tail in self.logs.values():
                tail.offset = 0
            news = {name: tail.news() for name, tail in self.logs.items()}
        for record in news[LOG_FILE]:
            self._take(record)
        for event in news[EVENTS_FILE]:
            self.events.append(event)
            self.blocks[_place(event)] += 1
        return news[LOG_FILE]

    @property
    def finished(self) -> bool:
        """Whether the run has ended, and was not resumed since."""
        try:
            end = json.loads((self.folder / FINISHED_FILE).read_text())["iteration"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return self.train.get("step", -1) < end

    def picture(self) -> Group:
        """Everything, for a terminal."""
        if not self.train:
            return Group(f"{self.folder}: waiting for the first train line of {LOG_FILE}")
        parts = [self._head(), self._counts(), *([self._blocks(), self._events()] if self.events else [])]
        return Group(*parts, *(["finished"] if self.finished else []))

    def _forget(self) -> None:
        self.hparams, self.train, self.evals = {}, {}, {}
        self.bits, self.events = deque(maxlen=_CURVE), deque(maxlen=_LAST_EVENTS)
        self.blocks, self.skipped = Counter(), 0

    def _take(self, record: dict) -> None:
        kind = record.get("type")
        if kind == "hparam":
            self.hparams[record.get("key")] = record.get("value")
        elif kind == "train_loss":
            self.train = record
            self.bits.append(record.get("elbo_filtered", math.nan) / math.log(2))
            self.skipped += record.get("skipped_updates", 0)
        elif kind in ("eval_loss", "test_loss"):
            self.evals[kind] = record

    def _head(self) -> Table:
        train, table = self.train, Table.grid(padding=(0, 2))
        speed = train.get("iter_time") or math.nan
        table.add_row("run", f"{self.folder}: {parameterization(self.hparams)}, seed {self.hparams.get('seed')}, "
                             f"step {train['step']}, epoch {train.get('epoch')}, {1 / speed:.2f} steps/s")
        table.add_row("loss", f"{self.bits[-1]:.4f} bits/dim, of it rate {train.get('rate', math.nan) / math.log(2):.4f}; "
                              f"largest gradient norm {train.get('grad_norm', math.nan):.4g}")
        table.add_row("course", curve(list(self.bits)))
        for kind, record in self.evals.items():
            table.add_row(kind.removesuffix("_loss"), f"{record['elbo'] / math.log(2):.4f} bits/dim")
        return table

    def _counts(self) -> Table:
        table = Table(title="Updates", title_justify="left")
        totals = {name: self.train.get(key) for name, key in TOTAL_KEYS.items()}
        totals["skipped_updates"] = self.skipped if totals["skipped_updates"] is None else totals["skipped_updates"]
        for name in totals:
            table.add_column(name.replace("_", " "), justify="right")
        table.add_row(*("-" if count is None else f"{count:g}" for count in totals.values()))
        return table

    def _blocks(self) -> Table:
        table = Table("where", "events", title="Where events began", title_justify="left")
        for place, count in self.blocks.most_common(_BLOCKS):
            table.add_row(place, str(count))
        return table

    def _events(self) -> Table:
        table = Table("step", "rank", "reason", "where", "prior log σ", "posterior log σ", title="Last events",
                      title_justify="left")
        for event in self.events:
            prior = _span(event.get("prior_log_sigma_min"), event.get("prior_log_sigma_max"))
            posterior = _span(event.get("posterior_log_sigma_min"), event.get("posterior_log_sigma_max"))
            table.add_row(str(event.get("step")), str(event.get("rank")), str(event.get("reason")), _place(event),
                          prior, posterior)
        return table


def follow(folder: Path, console: Console, pause: Callable[[], None] = lambda: time.sleep(SECONDS)) -> None:
    """Show the run in `folder` until it is finished; in a terminal a picture, elsewhere a line for each new figure."""
    watch = Watch(folder)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            _until_finished(watch, pause, lambda _: live.update(watch.picture(), refresh=True))
    else:
        _until_finished(watch, pause, lambda news: _print_lines(news, console))
    console.print(f"{folder} is finished", soft_wrap=True)


def curve(values: list[float]) -> str:
    """A line of bars from the smallest value to the largest; x where one is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, span = min(finite, default=0.0), (max(finite, default=0.0) - min(finite, default=0.0)) or 1.0
    bars = [BARS[int((value - low) / span * (len(BARS) - 1))] if math.isfinite(value) else "x" for value in values]
    return f"{''.join(bars)}  {min(finite):.3f} to {max(finite):.3f}" if finite else "".join(bars)


def _until_finished(watch: Watch, pause: Callable[[], None], show: Callable[[list[dict]], None]) -> None:
    while True:
        finished = watch.finished  # before the look, so that the last lines are in it
        news = watch.look()
        show(news)
        if finished and watch.finished:
            return
        pause()


def _print_lines(news: list[dict], console: Console) -> None:
    for record in news:
        if record.get("type") in ("train_loss", "eval_loss", "test_loss"):
            figures = {key: value for key, value in record.items() if isinstance(value, (int, float)) and value != 0}
            words = ", ".join(f"{key} {value:.5g}" for key, value in figures.items())
            console.print(f"{record['type']}: {words}", soft_wrap=True, highlight=False)


def _parsed(line: bytes) -> object:
    try:
        return parse_line(line)
    except ValueError:
        return None


def _place(event: dict) -> str:
    if event.get("block") is None:
        return str(event.get("origin"))
    return f"block {event['block']} ({event.get('resolution')}x{event.get('resolution')})"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4g} .. {high:.4g}"
