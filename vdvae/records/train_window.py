"""The figures between two train lines of the log, and the counters over the whole run."""

import math
from dataclasses import astuple, dataclass, field

from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.step_report import StepReport
from vdvae.records.typed import typed

LN2 = math.log(2)


@dataclass
class Counters:
    """Updates since the run began, by what happened to them; on several ranks, too, each update counts once.

    The fields are in the order of TOTAL_KEYS.
    """

    skipped_updates: int = 0
    nan_updates: int = 0
    rate_nans: int = 0
    distortion_nans: int = 0
    grad_nans: int = 0
    high_grads: int = 0

    @classmethod
    def of_line(cls, line: dict) -> "Counters":
        """The counters at a train line of the log; 0 for a total that the line lacks."""
        return cls(*(typed(int, line.get(key, 0), key) for key in TOTAL_KEYS.values()))

    def add(self, report: StepReport) -> None:
        """Count one update."""
        self.skipped_updates += report.skipped
        self.nan_updates += report.has_nan
        self.rate_nans += "rate_nan" in report.reasons
        self.distortion_nans += "distortion_nan" in report.reasons
        self.grad_nans += "grad_nan" in report.reasons
        self.high_grads += "high_grad" in report.reasons

    def totals(self) -> dict[str, int]:
        """The keys and values of the cumulative counters in a train line."""
        return dict(zip(TOTAL_KEYS.values(), astuple(self), strict=True))


@dataclass
class TrainWindow:
    """The updates since the last train line."""

    reports: list[StepReport] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def add(self, report: StepReport, seconds: float, waited: float) -> None:
        """Take in one update that took `seconds`, of which it `waited` for its batch."""
        self.reports.append(report)
        self.seconds.append(seconds)
        self.waits.append(waited)

    def summary(self) -> dict:
        """A train line's keys: means of the losses, counts, the largest finite gradient norm; empties the window.

        With spectral_reg there is also `spectral_norms`, that of the last update.
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
            "rate_nans": counts.rate_nans, "distortion_nans": counts.distortion_nans,
            "grad_nans": counts.grad_nans, "high_grads": counts.high_grads, "skipped_updates": counts.skipped_updates,
            "iter_time": _mean(self.seconds), "data_time": _mean(self.waits),
            **({} if last.spectral_norms is None else {"spectral_norms": last.spectral_norms}),
        }
        self.reports, self.seconds, self.waits = [], [], []
        return record


def _mean(values: list[float]) -> float:
    """Mean, NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
