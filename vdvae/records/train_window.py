"""The figures between two train lines of the log, and the counters over the whole run."""

import math
from dataclasses import asdict, dataclass

from vdvae.records.events import REASONS
from vdvae.step.step_report import StepReport

LN2 = math.log(2)


@dataclass
class Counters:
    """Updates since the run began, by what happened to them; integers, one count an update whatever the ranks."""

    skipped_updates: int = 0
    nan_updates: int = 0
    rate_nans: int = 0
    distortion_nans: int = 0
    grad_nans: int = 0
    high_grads: int = 0

    def add(self, report: StepReport) -> None:
        """Count one update."""
        self.skipped_updates += report.skipped
        self.nan_updates += report.has_nan
        for reason in report.reasons:
            name = f"{reason}s"
            setattr(self, name, getattr(self, name) + 1)

    def totals(self) -> dict[str, int]:
        """Names of the log's cumulative counters to values."""
        return {f"total_{name}": count for name, count in asdict(self).items()}


class TrainWindow:
    """Reports since the last train line."""

    def __init__(self):
        self.reports: list[StepReport] = []
        self.seconds: list[float] = []
        self.waits: list[float] = []

    def add(self, report: StepReport, seconds: float, waited: float) -> None:
        """Take in one update that took `seconds`, of which it `waited` for its batch."""
        self.reports.append(report)
        self.seconds.append(seconds)
        self.waits.append(waited)

    def summary(self) -> dict:
        """Keys of a train line: means of the losses, counts, the largest finite gradient norm; then the window is empty.

        With spectral_reg also the last `spectral_norms`.
        """
        counts = Counters()
        for report in self.reports:
            counts.add(report)
        last = self.reports[-1]
        elbos = [report.mean("elbo") for report in self.reports]
        norms = [report.grad_norm for report in self.reports if math.isfinite(report.grad_norm)]
        record = {
            "lr": last.lr, "epoch": last.epoch, "step": last.iteration,
            "elbo": _mean(elbos), "elbo_filtered": _mean([x for x in elbos if math.isfinite(x)]),
            "bits_per_dim": _mean(elbos) / LN2,
            "distortion": _mean([report.mean("distortion") for report in self.reports]),
            "rate": _mean([report.mean("rate") for report in self.reports]),
            "grad_norm": max(norms, default=0.0),
            **{name: getattr(counts, name) for name in (*(f"{reason}s" for reason in REASONS), "skipped_updates")},
            "iter_time": _mean(self.seconds), "data_time": _mean(self.waits),
            **({} if last.spectral_norms is None else {"spectral_norms": last.spectral_norms}),
        }
        self.reports, self.seconds, self.waits = [], [], []
        return record


def _mean(values: list[float]) -> float:
    """Mean, NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
