"""The progress bar of the main rank."""

import math

from tqdm import tqdm

from vdvae.step.step_report import StepReport
from vdvae.records.train_window import LN2, Counters


class Progress:
    """One line with step, loss, bits/dim, skipped updates, NaN events and the time left; silent off the main rank."""

    def __init__(self, start: int, total: int | None, is_main: bool):
        self.bar = tqdm(total=total, initial=start, disable=not is_main, unit="step", dynamic_ncols=True, mininterval=1.0)

    def show(self, report: StepReport, counters: Counters) -> None:
        """Advance by one update."""
        loss = report.mean("elbo")
        bits = f"{loss / LN2:.3f}" if math.isfinite(loss) else "nan"
        figures = f"loss {loss:.3f}, {bits} bits/dim, skipped {counters.skipped_updates}, NaN {counters.nan_updates}"
        self.bar.set_postfix_str(figures, refresh=False)
        self.bar.update()

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.bar.close()
