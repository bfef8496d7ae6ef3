"""Folders with everything that the next update depends on, from which a run continues to the bit; the last two are kept."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from vdvae.data.files import written_whole
from vdvae.data.own.parts import Parts
from vdvae.records.step_report import LOSS_TERMS
from vdvae.records.train_window import Counters, TrainWindow
from vdvae.records.typed import typed
from vdvae.saving.checkpoint import CheckpointError, load_tensors, save_tensors
from vdvae.settings.hparams import Hparams

FOLDER, KEPT, MANIFEST = "state", 2, "manifest.json"
Restored = TypeVar("Restored")
_TENSORS, _POSITION = "tensors.pt", "position.json"


@dataclass
class Position:
    """Where a run is; this and the tensors are all that the next update depends on."""

    iteration: int  # updates so far
    epoch: int
    step_in_epoch: int  # updates of this epoch so far
    ranks: int
    hparams: dict
    counters: Counters
    window: TrainWindow  # updates since the last train line
    seconds: float  # spent training so far
    first_iteration: int = 0
    consecutive_skips: int = 0
    log_sizes: dict[str, int] = field(default_factory=dict)  # bytes of each log file
    images: Parts = field(default_factory=dict)  # digests of a folder's files, by part and relative path


def save_state(run_folder: Path, position: Position, tensors: dict) -> Path:
    """Write run_folder/state/step-N, whole or not at all, and remove all but the newest KEPT states.

    Raises OSError when it cannot be written; the states that are there stay.
    """
    final = run_folder / FOLDER / _name(position.iteration)
    with written_whole(final) as partial:
        partial.mkdir()
        save_tensors(tensors, partial / _TENSORS)
        (partial / _POSITION).write_text(json.dumps(asdict(position)))
        manifest = {name: _fingerprint(partial / name) for name in (_TENSORS, _POSITION)}
        (partial / MANIFEST).write_text(json.dumps(manifest))
    for old in saved_states(run_folder)[KEPT:]:
        shutil.rmtree(old)
    return final


def saved_states(run_folder: Path) -> list[Path]:
    """The folders of finished checkpoints, newest first."""
    return sorted((run_folder / FOLDER).glob("step-" + "[0-9]" * 10), reverse=True)


def load_state_folder(run_folder: Path, restore: Callable[[Position, dict, Path], Restored],
                      ) -> tuple[Restored, Position, dict, list[str]]:
    """What `restore` makes of the newest good state, its position and tensors, and a message on each newer one that is not good.

    A state is good if its files are those that were saved, its fields have possible values, and `restore` accepts position and
    tensors; else `restore` raises CheckpointError that names the file. Raises FileNotFoundError when there is no checkpoint,
    CheckpointError when none is good.
    """
    damages = []
    for folder in saved_states(run_folder):
        try:
            _check_bytes(folder)
            position, tensors = _read_position(folder / _POSITION), load_tensors(str(folder / _TENSORS))
            return restore(position, tensors, folder / _TENSORS), position, tensors, damages
        except CheckpointError as error:
            damages.append(str(error))
    if damages:
        raise CheckpointError("no checkpoint is whole: " + "; ".join(damages))
    raise FileNotFoundError(f"nothing to resume from: {run_folder / FOLDER} holds no checkpoint")


def _name(iteration: int) -> str:
    return f"step-{iteration:010d}"


def _check_bytes(folder: Path) -> None:
    """Raise CheckpointError that names the first file that differs from the manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in (_TENSORS, _POSITION):
            if _fingerprint(folder / name) != manifest[name]:
                raise CheckpointError(f"{folder / name} is damaged: not the bytes that were saved")
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from error


def _read_position(path: Path) -> Position:
    """The position in a file; raises CheckpointError that names file and field if a field is not what a run writes."""
    try:
        position = typed(Position, json.loads(path.read_text()))
        _check_ranges(position, path.parent.name)
        typed(Hparams, position.hparams)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return position


def _check_ranges(position: Position, folder_name: str) -> None:
    if _name(position.iteration) != folder_name:
        raise ValueError(f"iteration is {position.iteration}, but the folder is {folder_name}")
    counts = {name: getattr(position, name) for name in ("epoch", "step_in_epoch", "first_iteration", "consecutive_skips")}
    for name, count in (counts | asdict(position.counters)).items():
        if not 0 <= count <= position.iteration:
            raise ValueError(f"{name} is {count}, must be from 0 to iteration, {position.iteration}")
    if not 0 <= position.seconds < math.inf or min(position.log_sizes.values(), default=0) < 0:
        raise ValueError(f"seconds is {position.seconds}, log_sizes is {position.log_sizes}: none can be negative or NaN")
    if any([set(each) for each in report.losses] != [set(LOSS_TERMS)] * position.ranks for report in position.window.reports):
        raise ValueError(f"window.reports must have {', '.join(LOSS_TERMS)} of each rank")


def _fingerprint(path: Path) -> dict:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
