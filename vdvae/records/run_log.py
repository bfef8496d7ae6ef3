"""Read a training run's log.jsonl and events.jsonl, this project's or the original VDVAE code's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_type_hints

from vdvae.records.columns import Columns
from vdvae.records.jsonl import parse_line, read_lines
from vdvae.records.lines import Event, HparamLine, LossLine, TrainLine, printable
from vdvae.records.log import EVENTS_FILE, LOG_FILE
from vdvae.records.run_counts import Counts, Windows, disagreements, event_counts, original_windows, own_windows
from vdvae.records.typed import typed
from vdvae.settings.block_strings import parse_decoder_blocks
from vdvae.settings.table import Effect, Settings, settings_that_change

# The settings that `parameterization` puts into words.
LABELLED = ("sigma_param", "posterior_sigma_param", "prior_sigma_param", "prior_const1", "posterior", "spectral_reg",
            "likelihood", "pixel_sigma_param", "pixel_loc")
# The settings that reports use, and their kinds; `compare` prints the others as they are.
_KINDS = {name: get_type_hints(Settings)[name] for name in (
    *LABELLED, "seed", "dataset", "dec_blocks", "max_consecutive_skips", "num_variables_visualize", "num_temperatures_visualize")}


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

    `train` and `events` are the fields of the lines. `final_nelbo` is the last test loss, else the last validation loss, else the
    last train line's mean over finite updates, else NaN, split `none`. `block_bits` are the rates of the decoder blocks in bits per
    dimension, of the last test, else validation; None if none was logged. `windows` are disjoint and leave out the train lines of an
    attempt that a continued run took again. `counts` are whole-run figures up to the last window: updates not applied, updates with
    a value that is not finite, and updates by reason. `notes` say in words what is missing, estimated or contradictory.
    """

    name: str
    hparams: dict
    train: Columns
    final_nelbo: FinalLoss
    block_bits: list[float] | None
    events: Columns
    windows: Windows
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
    def decoder_resolutions(self) -> list[int]:
        """Resolution of each decoder block, in order; empty if the log has no block string that can be read."""
        try:
            return [block.resolution for block in parse_decoder_blocks(self.hparams.get("dec_blocks") or "")]
        except ValueError:
            return []


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
        label = f"{posterior}" if posterior == prior else f"posterior {posterior}, prior {prior}"
    label += "/residual" if hparams.get("posterior") == "residual" else ""
    penalty = hparams.get("spectral_reg")
    return label + (f"/spectral{penalty:g}" if penalty else "") + _pixels(hparams)


def _pixels(hparams: dict) -> str:
    """`/normal_bounded`, `/normal_exp_identity`, `/bernoulli`; nothing for the mixture, which is the original's."""
    likelihood = hparams.get("likelihood", "logistic_mixture")
    if likelihood == "normal":
        return f"/normal_{hparams['pixel_sigma_param']}" + ("_identity" if hparams["pixel_loc"] == "identity" else "")
    return "" if likelihood == "logistic_mixture" else f"/{likelihood}"


def read_hparam(record: dict) -> dict[str, object]:
    """Key and value of an hparam line; raises ValueError for a value of another kind than the setting's."""
    line = typed(HparamLine, record, ignore_unknown=True)
    value = typed(_KINDS.get(line.key, object) | None, line.value, printable(line.key))
    return {printable(line.key): printable(value) if isinstance(value, str) else value}


class _Log:
    """Takes the lines of a log one by one; of those that are not in columns it keeps the last."""

    def __init__(self):
        self.train, self.in_training = Columns(TrainLine), False
        self.before, self.after = {}, {}  # hyper-parameters up to the last train line, and after it
        self.losses, self.block_bits, self.notes = {}, {}, []  # the first two by type
        self.last_step: int | None = None

    def take(self, line: bytes) -> None:
        """Read one line; raises ValueError that names what is wrong."""
        if self.train.take(line):
            self.in_training = True
            return
        record = parse_line(line)
        kind = record.get("type")
        if kind == "train_loss":
            self.train.add(record, line)
            self.in_training = True
        elif kind == "hparam":
            self.end_training()
            self.after |= read_hparam(record)
        elif kind in ("eval_loss", "test_loss"):
            self.end_training()
            self._evaluate(kind, typed(LossLine, record, ignore_unknown=True))

    def end_training(self) -> None:
        """Take in what was true at the last train line, if no other line was read since."""
        if self.in_training:
            self.before, self.after = self.before | self.after, {}
            self.last_step, self.in_training = int(self.train["step"][-1]), False
            self.notes = ["the test loss was measured before the run went on training"] if "test_loss" in self.losses else []

    def _evaluate(self, kind: str, line: LossLine) -> None:
        self.losses[kind] = line.elbo
        if line.rate_per_block is not None:
            self.block_bits[kind] = [rate / math.log(2) for rate in line.rate_per_block]
        self.last_step = self.last_step if line.step is None else line.step
        self.notes = [] if kind == "test_loss" else self.notes


def read_run(path: str | Path) -> RunLog:
    """Read a run folder (`save_dir/desc`) or one .jsonl log; events.jsonl is looked for beside the log.

    Raises FileNotFoundError for a missing folder or log, and ValueError, naming file and line, for a line that is not
    JSON or in which a field that its type needs is missing or wrong. A last line cut off in mid-write is left out, and a note says so.
    """
    file = _find_log(Path(path))
    log = _Log()
    notes = _read(file, log.take)
    log.end_training()
    if not (log.train or log.before or log.after or log.losses):
        raise ValueError(f"{file} is not a run's log: it has no line of type hparam, train_loss, eval_loss, test_loss")
    hparams, hparam_notes = _training_hparams(log)
    events = None  # a run makes the file at its first event
    if not _is_original(hparams) and (event_file := file.with_name(EVENTS_FILE)).is_file():
        events = Columns(Event)
        notes += _read(event_file, lambda line: events.take(line) or events.add(parse_line(line), line))
    windows, counts, count_notes = _count(log.train, hparams, events)
    notes += count_notes + log.notes + hparam_notes
    if not hparams:
        notes.append("the log has no hparam lines: parameterization and seed are unknown")
    bits = log.block_bits.get("test_loss") or log.block_bits.get("eval_loss")
    return RunLog(str(Path(path)), hparams, log.train, _final_loss(log), bits, Columns(Event) if events is None else events,
                  windows, counts, log.last_step, notes)


def _training_hparams(log: _Log) -> tuple[dict, list[str]]:
    """The hyper-parameters of the training, and a note on those that a later test into the same log had otherwise."""
    if not log.train:
        return log.after, []
    before, after = log.before, log.after
    differing = [f"{name} {after[name]!r} instead of {before[name]!r}" for name in settings_that_change(Effect.MODEL)
                 if name in after and name in before and after[name] != before[name]]
    return before, [f"the test after the training had {', '.join(differing)}"] if differing else []


def _final_loss(log: _Log) -> FinalLoss:
    for kind, split in (("test_loss", "test"), ("eval_loss", "valid")):
        if kind in log.losses:
            return FinalLoss(log.losses[kind], split)
    return FinalLoss(log.train["elbo_filtered"][-1].item(), "train") if log.train else FinalLoss(math.nan, "none")


def _count(train: Columns, hparams: dict, events: Columns | None) -> tuple[Windows, Counts, list[str]]:
    """Windows, whole-run counts and notes; events are None where events.jsonl is missing."""
    if _is_original(hparams):
        windows, notes = original_windows(train, hparams.get("iters_per_print", 1000))
        return windows, windows.summed(), notes
    windows, notes = own_windows(train)
    counts = windows.summed()
    if events is None:
        missing = "events.jsonl is missing: no blocks, no log sigmas, no first and last step of a reason"
        return windows, counts, notes if counts["skipped_updates"] == 0 else [*notes, missing]
    if not windows:
        return windows, event_counts(events), [*notes, "no train_loss line with counts: they come from events.jsonl"]
    return windows, counts, notes + disagreements(windows, events)


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


def _read(file: Path, take: Callable[[bytes], object]) -> list[str]:
    """Read a file's lines; a note if the last one was cut off."""
    cut_off = read_lines(file, take)
    return [f"{file.name}: the last line ({cut_off}) was cut off in mid-write and is left out"] if cut_off else []
