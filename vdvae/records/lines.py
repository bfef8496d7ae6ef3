"""What inspect, compare and --restore_log_path read of each kind of log line; fields that are not here are not read."""

from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Literal

from vdvae.records.step_report import REASONS
from vdvae.records.typed import hints

MOST = 10**15  # of steps and counts: up to there a float64 holds each whole number


def printable(text: object) -> str:
    """As text in which control characters, line ends and halves of surrogate pairs are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


class _Checked:
    def __post_init__(self) -> None:
        for name, kind in hints(type(self)).items():
            if kind in (int, int | None) and not 0 <= (getattr(self, name) or 0) < MOST:
                raise ValueError(f"{name} is {getattr(self, name)}, must be from 0 to 10^15")


@dataclass
class HparamLine:
    """One hyper-parameter: None, a bool, a number, a text, or a list of these."""

    key: str
    value: object

    def __post_init__(self) -> None:
        if any(isinstance(each, (list, dict)) for each in (self.value if isinstance(self.value, list) else [self.value])):
            raise ValueError(f"{printable(self.key)} is {shortened(self.value)}, no number, text, true, false or null, and no list of these")


@dataclass
class TrainLine(_Checked):
    """Losses in nats per dimension; the original code's lines have no totals."""

    step: int
    elbo: float
    elbo_filtered: float
    grad_norm: float
    distortion_nans: float
    rate_nans: float
    skipped_updates: float
    total_skipped_updates: int | None = None
    total_nan_updates: int | None = None
    total_rate_nans: int | None = None
    total_distortion_nans: int | None = None
    total_grad_nans: int | None = None
    total_high_grads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        totals = {name: value for name, value in vars(self).items() if name.startswith("total_")}
        if None in totals.values() and len(set(totals.values())) > 1:
            raise ValueError(f"{next(name for name, value in totals.items() if value is None)} is missing")


@dataclass
class LossLine(_Checked):
    """An evaluation on validation or test images; the original code's test lines have no step."""

    elbo: float
    step: int | None = None
    rate_per_block: list[float] | None = None


@dataclass(frozen=True)
class Origin:
    """The part of the model where an event started.

    `origin` is encoder, decoder or likelihood; `block` and `resolution` name a decoder block. `quantity` names the evidence:
    the first of the block's tensors that is not finite, `gradient` for a gradient that is not finite, `kl_gradient` for
    the largest gradient of a KL. The extremes are those of the block's Normals on this rank's batch: log sigmas in nats,
    location differences between posterior and prior in units of the prior's sigma. NaN entries are left out, infinities
    are not; an extreme is NaN if nothing is left.

    A likelihood of Normals has `pixel` and `pixel_log_sigma` whatever the origin: row, column and channel of the pixel whose
    mean has the largest gradient, or the first one that is not finite, and its log sigma in nats.
    """

    origin: str
    block: int | None = None
    resolution: int | None = None
    quantity: str | None = None
    prior_log_sigma_min: float | None = None
    prior_log_sigma_max: float | None = None
    posterior_log_sigma_min: float | None = None
    posterior_log_sigma_max: float | None = None
    max_loc_diff_over_sigma: float | None = None
    pixel: str | None = None
    pixel_log_sigma: float | None = None


@dataclass(frozen=True, kw_only=True)
class Event(_Checked, Origin):
    """One reason on one rank of one skipped update; a patched checkout of the original marks those it applied."""

    step: int
    reason: Literal[*REASONS]
    skipped: bool | None = None  # None: yes
