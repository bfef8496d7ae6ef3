"""Watch a running log in the terminal: what `python -m vdvae.inspect RUN --follow` shows."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from vdvae.records.jsonl import parse_line
from vdvae.records.lines import Event, LossLine, TrainLine, printable
from vdvae.records.log import EVENTS_FILE, FINISHED_FILE, LOG_FILE
from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import parameterization, read_hparam
from vdvae.records.typed import typed

SECONDS = 1.0  # between looks
BARS = "▁▂▃▄▅▆▇█"
_CURVE, _LAST_EVENTS, _BLOCKS = 60, 5, 8


@dataclass
class _Train(TrainLine):
    epoch: int | None = None
    rate: float | None = None
    iter_time: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Event(Event):
    rank: int | None = None


class Tail:
    """The records that are appended to a JSON-lines file; each is read once."""

    def __init__(self, path: Path):
        self.path, self.offset = path, 0

    def news(self) -> list[dict] | None:
        """The records since the last call, none if there is no file; None if the file became shorter: then read all again.

        A last line without its end is read in a later call. Lines that are no JSON objects are left out; inspect names them.
        """
        if not self.path.exists():
            return []
        if self.path.stat().st_size < self.offset:
            self.offset = 0
            return None
        records = []
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for line in file:
                if line.endswith(b"\n"):
                    self.offset += len(line)
                    with suppress(ValueError):
                        records.append(parse_line(line))
        return records


class Watch:
    """What the logs of a run say so far."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.logs = {name: Tail(folder / name) for name in (LOG_FILE, EVENTS_FILE)}
        self._forget()

    def look(self) -> list[dict]:
        """Read what was appended; returns the new records of the log, or all of them after --resume has cut the logs.

        Records with a wrong field are left out; inspect names them.
        """
        news = {name: tail.news() for name, tail in self.logs.items()}
        if None in news.values():
            self._forget()
            for tail in self.logs.values():
                tail.offset = 0
            news = {name: tail.news() for name, tail in self.logs.items()}
        for record in news[EVENTS_FILE]:
            with suppress(ValueError):
                self.events.append(typed(_Event, record, ignore_unknown=True))
                self.blocks[_place(self.events[-1])] += 1
        return [record for record in news[LOG_FILE] if self._take(record)]

    @property
    def finished(self) -> bool:
        """Whether the run has ended, and was not resumed since."""
        try:
            end = typed(int, parse_line((self.folder / FINISHED_FILE).read_bytes()).get("iteration"), "iteration")
        except (OSError, ValueError):
            return False
        return self.train is None or self.train.step < end

    def picture(self) -> Group:
        """Everything, for a terminal."""
        if not self.train:
            return Group(f"{printable(self.folder)}: waiting for the first train line of {LOG_FILE}")
        parts = [self._head(), self._counts(), *([self._blocks(), self._events()] if self.events else [])]
        return Group(*parts, *(["finished"] if self.finished else []))

    def _forget(self) -> None:
        self.hparams, self.train, self.evals = {}, None, {}
        self.bits, self.events = deque(maxlen=_CURVE), deque(maxlen=_LAST_EVENTS)
        self.blocks, self.skipped = Counter(), 0

    def _take(self, record: dict) -> bool:
        """Whether the record's fields are good."""
        kind = record.get("type")
        try:
            if kind == "hparam":
                self.hparams |= read_hparam(record)
            elif kind == "train_loss":
                self.train = typed(_Train, record, ignore_unknown=True)
                self.bits.append(self.train.elbo_filtered / math.log(2))
                self.skipped += self.train.skipped_updates
            elif kind in ("eval_loss", "test_loss"):
                self.evals[kind] = typed(LossLine, record, ignore_unknown=True).elbo / math.log(2)
        except ValueError:
            return False
        return True

    def _head(self) -> Table:
        train, table = self.train, Table.grid(padding=(0, 2))
        table.add_row("run", f"{printable(self.folder)}: {parameterization(self.hparams)}, seed {self.hparams.get('seed')}, "
                             f"step {train.step}, epoch {train.epoch}, {1 / (train.iter_time or math.nan):.2f} steps/s")
        rate = math.nan if train.rate is None else train.rate / math.log(2)
        table.add_row("loss", f"{self.bits[-1]:.4f} bits/dim, of it rate {rate:.4f}; largest gradient norm {train.grad_norm:.4g}")
        table.add_row("course", curve(list(self.bits)))
        for kind, bits in self.evals.items():
            table.add_row(kind.removesuffix("_loss"), f"{bits:.4f} bits/dim")
        return table

    def _counts(self) -> Table:
        table = Table(title="Updates", title_justify="left")
        totals = {name: getattr(self.train, key) for name, key in TOTAL_KEYS.items()}
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
            prior = _span(event.prior_log_sigma_min, event.prior_log_sigma_max)
            posterior = _span(event.posterior_log_sigma_min, event.posterior_log_sigma_max)
            table.add_row(str(event.step), str(event.rank), event.reason, _place(event), prior, posterior)
        return table


def follow(folder: Path, console: Console, pause: Callable[[], None] = lambda: time.sleep(SECONDS)) -> None:
    """Show the run in `folder` until it is finished; in a terminal a picture, elsewhere a line for each new figure."""
    watch = Watch(folder)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            _until_finished(watch, pause, lambda _: live.update(watch.picture(), refresh=True))
    else:
        _until_finished(watch, pause, lambda news: _print_lines(news, console))
    console.print(f"{printable(folder)} is finished", soft_wrap=True)


def curve(values: list[float]) -> str:
    """A line of bars from the smallest value to the largest; x where one is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0) / 2, max(finite, default=0.0) / 2  # the whole difference can overflow
    span = (high - low) or 1.0
    bars = [BARS[int((value / 2 - low) / span * (len(BARS) - 1))] if math.isfinite(value) else "x" for value in values]
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
            words = ", ".join(f"{printable(key)} {value:.5g}" for key, value in figures.items())
            console.print(f"{record['type']}: {words}", soft_wrap=True, highlight=False)


def _place(event: Event) -> str:
    return printable(event.origin) if event.block is None else f"block {event.block} ({event.resolution}x{event.resolution})"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4g} .. {high:.4g}"
