"""The progress of a run on stderr: a bar in a terminal, a plain line now and then in a file or a pipe."""

import math
import sys

from tqdm import tqdm

from vdvae.records.step_report import StepReport
from vdvae.records.train_window import LN2, Counters

SECONDS = 10.0  # between plain lines, at least


class _PlainLines:
    """A file for tqdm that writes each state of the bar to stderr as a line, without carriage returns."""

    def write(self, text: str) -> None:
        if state := text.strip():
            print(state, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(total: int, done: int, shown: bool) -> tqdm:
    """A bar of `total` updates, of which `done` are made."""
    bar = {"mininterval": 1.0, "dynamic_ncols": True}
    lines = {"mininterval": SECONDS, "file": _PlainLines(),
             "bar_format": "step {n_fmt}/{total_fmt}{postfix}, {rate_fmt}, {remaining} left"}
    return tqdm(total=total, initial=done, disable=not shown, unit=" steps", **(bar if sys.stderr.isatty() else lines))


def show_progress(bar: tqdm, report: StepReport, counters: Counters) -> None:
    """Advance the bar by one update, with its loss in nats and bits per dimension and the run's skips and NaNs."""
    loss = report.mean("elbo")
    bits = f"{loss / LN2:.3f}" if math.isfinite(loss) else "nan"
    bar.set_postfix_str(f"loss {loss:.3f}, {bits} bits/dim, skipped {counters.skipped_updates}, NaN {counters.nan_updates}",
                        refresh=False)
    bar.update()
