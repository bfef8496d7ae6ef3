"""Folders with everything that the next update depends on, from which a run goes on to the bit; the last two are kept."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from vdvae.data.files import written_whole
from vdvae.saving.checkpoint import CheckpointError, save_tensors

FOLDER, KEPT, MANIFEST = "state", 2, "manifest.json"
_TENSORS, _POSITION = "tensors.pt", "position.json"


@dataclass
class Position:
    """Where a run is; this and the tensors are all that the next update depends on."""

    iteration: int  # updates so far
    epoch: int
    step_in_epoch: int  # updates of this epoch so far
    ranks: int
    hparams: dict
    counters: dict
    window: dict  # updates since the last train line
    seconds: float  # spent training so far
    first_iteration: int = 0
    consecutive_skips: int = 0
    log_sizes: dict = field(default_factory=dict)  # bytes of each log file
    images: dict = field(default_factory=dict)  # digests of a folder's files, by part and relative path


def save_state(run_folder: Path, position: Position, tensors: dict) -> Path:
    """Write run_folder/state/step-N, whole or not at all, and remove all but the newest KEPT states.

    Raises OSError when it cannot be written; the states that are there stay.
    """
    final = run_folder / FOLDER / f"step-{position.iteration:010d}"
    with written_whole(final) as partial:
        partial.mkdir(parents=True)
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


def load_state_folder(run_folder: Path) -> tuple[Position, dict, list[str]]:
    """Position and tensors of the newest undamaged state, and a message on each newer one that is damaged.

    Raises FileNotFoundError when there is no checkpoint, CheckpointError when all of them are damaged.
    """
    damages = []
    for folder in saved_states(run_folder):
        damage = _damage(folder)
        if damage is None:
            position = Position(**json.loads((folder / _POSITION).read_text()))
            return position, torch.load(folder / _TENSORS, map_location="cpu", weights_only=True), damages
        damages.append(damage)
    if damages:
        raise CheckpointError("no checkpoint is whole: " + "; ".join(damages))
    raise FileNotFoundError(f"nothing to go on from: {run_folder / FOLDER} holds no checkpoint")


def _damage(folder: Path) -> str | None:
    """A message that names the first file that differs from the manifest; None if all are whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in (_TENSORS, _POSITION):
            if _fingerprint(folder / name) != manifest[name]:
                return f"{folder / name} is damaged: not the bytes that were saved"
    except (OSError, ValueError, KeyError) as error:
        return f"{folder} is damaged: {error}"
    return None


def _fingerprint(path: Path) -> dict:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
