"""Read a training run's log.jsonl and events.jsonl, this project's or the original VDVAE code's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vdvae.records.jsonl import read_lines
from vdvae.records.log import EVENTS_FILE, LOG_FILE
from vdvae.records.run_counts import (
    TOTAL_KEYS, Counts, Window, disagreements, event_counts, original_windows, own_windows, sum_counts,
)
from vdvae.records.step_report import REASONS
from vdvae.settings.block_strings import parse_decoder_blocks
from vdvae.settings.table import Effect, settings_that_change

# The settings that `parameterization` puts into words.
LABELLED = ("sigma_param", "posterior_sigma_param", "prior_sigma_param", "prior_const1", "posterior", "spectral_reg")

_NEEDS = {
    "hparam": (),
    "train_loss": ("step", "elbo", "elbo_filtered", "grad_norm", "distortion_nans", "rate_nans", "skipped_updates"),
    "eval_loss": ("step", "elbo"),
    "test_loss": ("elbo",),
}


class FinalLoss(NamedTuple):
    """A run's last word on its loss: the negative ELBO in nats per dimension, and the split it was measured on."""

    nats_per_dim: float
    split: str

    @property
    def bits_per_dim(self) -> float:
        """The same loss in bits per dimension."""
        return self.nats_per_dim / math.log(2)


@dataclass(frozen=True)
class RunLog:
    """One run, read from its log.

    `train`, `evals`, `tests` and `events` are the lines as written. `windows` are disjoint and leave out the train
    lines of an attempt that a continued run took again. `counts` are whole-run figures up to the last window: updates not
    applied, updates with a value that is not finite, and updates by reason.
    `notes` say in words what is missing, estimated or contradictory.
    """

    name: str
    hparams: dict
    train: list[dict]
    evals: list[dict]
    tests: list[dict]
    events: list[dict]
    windows: list[Window]
    counts: Counts
    last_step: int | None
    notes: list[str]

    @property
    def seed(self) -> int | None:
        """The run's seed, None if it was not logged."""
        return self.hparams.get("seed")

    @property
    def parameterization(self) -> str:
        """The label of the run's hyper-parameters."""
        return parameterization(self.hparams)

    @property
    def block_bits(self) -> list[float] | None:
        """Each decoder block's rate in bits per dimension, of the last test, else validation; None if none was logged."""
        lines = [line for line in (*self.evals, *self.tests) if "rate_per_block" in line]
        return [rate / math.log(2) for rate in lines[-1]["rate_per_block"]] if lines else None

    @property
    def decoder_resolutions(self) -> list[int]:
        """Resolution of each decoder block, in order; empty if the log has no block string that can be read."""
        try:
            return [block.resolution for block in parse_decoder_blocks(self.hparams.get("dec_blocks") or "")]
        except ValueError:
            return []

    @property
    def final_nelbo(self) -> FinalLoss:
        """The last test loss, else the last validation loss, else the last train line's mean over finite updates.

        A run that logged no loss has NaN, split `none`.
        """
        for records, key, split in (
            (self.tests, "elbo", "test"), (self.evals, "elbo", "valid"), (self.train, "elbo_filtered", "train"),
        ):
            if records:
                return FinalLoss(records[-1][key], split)
        return FinalLoss(math.nan, "none")


def parameterization(hparams: dict) -> str:
    """`explin`, `explin/prior_const1`, `posterior explin, prior exp`, ...: a label made of the settings in LABELLED.

    `original` for the original's logs, `unknown` for a log without hyper-parameters.
    """
    if not hparams:
        return "unknown"
    if _is_original(hparams):
        return "original"
    posterior = hparams.get("posterior_sigma_param") or hparams["sigma_param"]
    prior = hparams.get("prior_sigma_param") or hparams["sigma_param"]
    if hparams.get("prior_const1"):
        label = f"{posterior}/prior_const1"
    else:
        label = posterior if posterior == prior else f"posterior {posterior}, prior {prior}"
    label += "/residual" if hparams.get("posterior") == "residual" else ""
    penalty = hparams.get("spectral_reg")
    return f"{label}/spectral{penalty:g}" if penalty else label


def read_run(path: str | Path) -> RunLog:
    """Read a run folder (`save_dir/desc`) or one .jsonl log; events.jsonl is looked for beside the log.

    Raises FileNotFoundError for a missing folder or log, and ValueError, naming file and line, for a line that is not
    JSON or lacks what its type needs. A last line cut off in mid-write is left out, and a note says so.
    """
    log = _find_log(Path(path))
    records, notes = _read_checked(log, _check_record)
    of_type = {kind: [record for record in records if record.get("type") == kind] for kind in _NEEDS}
    if not any(of_type.values()):
        raise ValueError(f"{log} is not a run's log: it has no line of type {', '.join(_NEEDS)}")
    hparams, hparam_notes = _training_hparams(records)
    train, evals, tests = of_type["train_loss"], of_type["eval_loss"], of_type["test_loss"]
    events, event_notes = None, []  # a run makes the file at its first event
    if not _is_original(hparams) and (event_file := log.with_name(EVENTS_FILE)).is_file():
        events, event_notes = _read_checked(event_file, _check_event)
    windows, counts, count_notes = _count(train, hparams, events)
    steps = [record["step"] for record in records if record.get("type") in _NEEDS and "step" in record]
    last_step = steps[-1] if steps else None
    notes += event_notes + count_notes + _stale_test_note(records) + hparam_notes
    if not hparams:
        notes.append("the log has no hparam lines: parameterization and seed are unknown")
    return RunLog(str(Path(path)), hparams, train, evals, tests, events or [], windows, counts, last_step, notes)


def _training_hparams(records: list[dict]) -> tuple[dict, list[str]]:
    """The hyper-parameters of the training, and a note on those that a later test into the same log had otherwise."""
    kinds = [record.get("type") for record in records]
    end = len(kinds) - kinds[::-1].index("train_loss") if "train_loss" in kinds else len(kinds)
    before, after = ({record["key"]: record["value"] for record in part if record.get("type") == "hparam"}
                     for part in (records[:end], records[end:]))
    differing = [f"{name} {after[name]!r} instead of {before[name]!r}" for name in settings_that_change(Effect.MODEL)
                 if name in after and name in before and after[name] != before[name]]
    return before, [f"the test after the training had {', '.join(differing)}"] if differing else []


def _count(train: list[dict], hparams: dict, events: list[dict] | None) -> tuple[list[Window], Counts, list[str]]:
    """Windows, whole-run counts and notes; events are None where events.jsonl is missing."""
    if _is_original(hparams):
        windows, notes = original_windows(train, hparams.get("iters_per_print", 1000))
        return windows, sum_counts(windows), notes
    windows, notes = own_windows(train)
    counts = sum_counts(windows)
    if events is None:
        missing = "events.jsonl is missing: no blocks, no log sigmas, no first and last step of a reason"
        return windows, counts, notes if counts["skipped_updates"] == 0 else [*notes, missing]
    if not windows:
        return windows, event_counts(events), [*notes, "no train_loss line with counts: they come from events.jsonl"]
    return windows, counts, notes + disagreements(windows, events)


def _stale_test_note(records: list[dict]) -> list[str]:
    kinds = [record.get("type") for record in records]
    if "test_loss" in kinds and "train_loss" in kinds[len(kinds) - kinds[::-1].index("test_loss"):]:
        return ["the test loss was measured before the run went on training"]
    return []


def _is_original(hparams: dict) -> bool:
    """Whether the original VDVAE code wrote the log: its hyper-parameters have no sigma_param."""
    return bool(hparams) and "sigma_param" not in hparams


def _find_log(path: Path) -> Path:
    if path.is_file() and path.suffix != ".jsonl":
        raise ValueError(f"{path} is neither a run folder nor a .jsonl file")
    log = path / LOG_FILE if path.is_dir() else path
    if not log.is_file():
        raise FileNotFoundError(f"{log} does not exist; a run folder (save_dir/desc) holds log.jsonl and events.jsonl")
    return log


def _read_checked(file: Path, check: Callable[[dict, str], None]) -> tuple[list[dict], list[str]]:
    """Every record of a JSON-lines file, checked, and a note if the last line was cut off."""
    records, is_cut_off = read_lines(file)
    for number, record in enumerate(records, start=1):
        check(record, f"{file}, line {number}")
    note = f"{file.name}: the last line ({len(records) + 1}) was cut off in mid-write and is left out"
    return records, [note] if is_cut_off else []


def _check_record(record: object, where: str) -> None:
    """Raise ValueError unless a log line is an object with what its type needs."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object, found {record!r}")
    kind = record.get("type")
    if kind == "hparam" and not {"key", "value"} <= record.keys():
        raise ValueError(f"{where}: an hparam line needs key and value")
    needs = _NEEDS.get(kind, ())
    if kind == "train_loss" and "total_skipped_updates" in record:
        needs += tuple(TOTAL_KEYS.values())
    _check_numbers(record, needs, where)
    rates = record.get("rate_per_block", [])
    if not (isinstance(rates, list) and all(isinstance(rate, (int, float)) for rate in rates)):
        raise ValueError(f"{where}: rate_per_block is {rates!r}, a list of numbers is needed")


def _check_event(record: object, where: str) -> None:
    """Raise ValueError unless a line of events.jsonl is an object with a step, a known reason and an origin."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object, found {record!r}")
    _check_numbers(record, ("step",), where)
    if record.get("reason") not in REASONS:
        raise ValueError(f"{where}: reason is {record.get('reason')!r}, allowed are {', '.join(REASONS)}")
    if "origin" not in record:
        raise ValueError(f"{where}: an event needs an origin")


def _check_numbers(record: dict, keys: tuple[str, ...], where: str) -> None:
    for key in keys:
        allowed = int if key == "step" else (int, float)
        if not isinstance(record.get(key), allowed):
            raise ValueError(f"{where}: {key} is {record.get(key)!r}, a number is needed")
