"""What updates did: read one update late, counted, shown, and written to log.jsonl and events.jsonl."""

import time
from dataclasses import asdict

from vdvae.ranks.distributed import World
from vdvae.records.log import RunLogger
from vdvae.records.step_report import StepReport
from vdvae.saving.training_state import TrainingState
from vdvae.settings.hparams import Hparams
from vdvae.step.locate import locate
from vdvae.step.step_result import PendingReport
from vdvae.training.endings import SkipStreak
from vdvae.training.progress import progress_bar, show_progress

EARLY_REPORTS = frozenset([1] + [2**k for k in range(3, 14)])  # updates since the start that are logged whatever the interval


class Digest:
    """Takes in one update after another, and keeps the counters of `state`.

    `total` is the number of the run's last update, for the progress bar. `asked_to_stop` holds once a rank was asked to
    stop.
    """

    def __init__(self, hparams: Hparams, state: TrainingState, log: RunLogger, world: World, total: int):
        self.hparams, self.state, self.log, self.world = hparams, state, log, world
        self.names = [name for name, _ in state.vae.named_parameters()]
        self.pending: PendingReport | None = None
        self.streak, self.asked_to_stop = SkipStreak(), False
        self.bar = progress_bar(total, state.iteration, shown=world.is_main)
        self.restart_clock()

    def take(self, pending: PendingReport | None, waited: float = 0.0) -> None:
        """Take in an update that was just started (None: there is none), and digest the one before it.

        `waited` counts the seconds between the two in which the trainer waited for a batch.
        """
        previous, self.pending = self.pending, pending
        if previous is not None:
            self._digest(previous, waited)

    def flush(self) -> None:
        """Digest the last update, and log what is not logged yet."""
        self.take(None)
        if self.state.window.reports:
            self._log_window()

    def restart_clock(self) -> None:
        """Leave the time since the last update out of the time of the next one."""
        self.last_time = time.perf_counter()

    def close(self) -> None:
        """Leave the last state of the progress bar on the screen."""
        self.bar.close()

    def _digest(self, pending: PendingReport, waited: float) -> None:
        report, state = pending.read(), self.state
        state.window.add(report, time.perf_counter() - self.last_time, waited)
        self.restart_clock()
        state.counters.add(report)
        state.consecutive_skips = state.consecutive_skips + 1 if report.skipped else 0
        self.asked_to_stop |= report.stop
        show_progress(self.bar, report, state.counters)
        if report.skipped:
            self._write_events(pending, report)
        else:
            self.streak = SkipStreak()
        if report.iteration % self.hparams.iters_per_print == 0 or report.iteration - state.first_iteration in EARLY_REPORTS:
            self._log_window()

    def _log_window(self) -> None:
        record = self.state.window.summary()
        self.log(model=self.hparams.desc, type="train_loss", **record, **self.state.counters.totals())

    def _write_events(self, pending: PendingReport, report: StepReport) -> None:
        """One line per reason and rank, each with what that rank found in its own tensors."""
        mine = {reason: asdict(locate(reason, pending.result, self.names))
                for reason, ranks in report.reasons.items() if self.world.rank in ranks}
        for rank, found in enumerate(self.world.gather_objects(mine)):
            for reason, origin in found.items():
                self.streak.add(reason, report.grad_norm, origin)
                self.log.event(step=report.iteration, epoch=report.epoch, rank=rank, reason=reason, skipped=report.skipped,
                               grad_norm=report.grad_norm, **report.losses[rank], **origin)
