"""Begin a run or resume one: the state that it starts from, its folder and its logs."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from vdvae.data.own.parts import Parts
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import StartError, World
from vdvae.ranks.randomness import restore_noise, seed_noise
from vdvae.records.jsonl import append_whole
from vdvae.records.log import EVENTS_FILE, FINISHED_FILE, LOG_FILE, TEXT_FILE, RunLogger
from vdvae.records.tensorboard import TensorBoard, check_tensorboard
from vdvae.saving.pixels import PIXEL_SETTINGS, with_pixels_of, with_pixels_of_weights
from vdvae.saving.run_state import Position, load_state_folder, saved_states
from vdvae.saving.training_state import TrainingState, new_state, new_vae
from vdvae.settings.hparams import Hparams, HparamsError
from vdvae.settings.table import CHANGEABLE, Effect, settings_that_change
from vdvae.step.acceleration import acceleration_line

LOGS = (LOG_FILE, TEXT_FILE, EVENTS_FILE)
MUST_STAY = settings_that_change(Effect.MODEL, Effect.DATA, Effect.TRAINING)  # when a run is resumed
NO_RATE = 0.01  # nats per dimension

Data = TypeVar("Data")
LoadData = Callable[[Hparams, Parts | None], tuple[Hparams, Data]]


def begin_or_resume(hparams: Hparams, world: World,
                    load_data: LoadData[Data]) -> tuple[Hparams, Data, TrainingState, RunLogger] | None:
    """The settings, the data, the state to train from and the run's log: of a new run, or with `resume` of that in the folder.

    None, with nothing written, if the run in the folder is finished and `hparams` does not ask for more than it did.
    `load_data` gets the parts of a folder's images that the saved state has, None for a new run. It gives the settings with what
    the images say of channels, bits and standardisation. The random generators are set too. Raises StartError on all ranks,
    before anything is written, when one rank cannot begin: the folder holds another run, a file is missing or damaged, or the
    saved run had other settings.
    """
    hparams, data, state, position, messages = world.agree(lambda: _prepared(hparams, world, load_data))
    if len(set(world.gather_objects(position and position.iteration))) > 1:
        raise StartError(f"the ranks do not find the same states in {hparams.run_folder}: start again when all machines "
                         "see its files")
    if len(set(world.gather_objects(tuple(getattr(hparams, name) for name in PIXEL_SETTINGS)))) > 1:
        raise StartError(f"the ranks do not read the same images in {hparams.data_root}: start again when all machines see its files")
    if any(world.gather_objects(_is_finished(hparams, position))):
        if world.is_main:
            print(f"{hparams.run_folder} is finished, after {position.iteration} updates: nothing is done. A larger "
                  "--num_iters or --num_epochs continues it")
        return None
    if hparams.resume and world.is_main:
        _reopen(hparams.run_folder, position)
    log = _open_log(hparams, world, state.iteration)
    if position is None:
        log_start(hparams, state.vae, world, log)
        _say_first_rate(hparams, state.vae, log)
    for message in (*messages, acceleration_line(hparams)):
        log(message)
    if position is not None:
        _log_changes(position, hparams, log)
    return hparams, data, state, log


def begin_test(hparams: Hparams, world: World) -> tuple[VAE, RunLogger]:
    """The averaged model to score and the log to write to; raises StartError as begin_or_resume does."""
    def prepared() -> VAE:
        _check_start(hparams, world)
        return new_vae(hparams, world)[1]

    average = world.agree(prepared)
    log = _open_log(hparams, world, 0)
    log_start(hparams, average, world, log)
    return average, log


def _prepared(hparams: Hparams, world: World, load_data: LoadData[Data],
              ) -> tuple[Hparams, Data, TrainingState, Position | None, list[str]]:
    """Settings, data, state, the position of the saved state that it comes from (None for a new run), and lines for the log."""
    _check_start(hparams, world)
    if not hparams.resume or (hparams.resume == "auto" and not saved_states(hparams.run_folder)):
        hparams, data = load_data(with_pixels_of_weights(hparams), None)
        state, position, messages = new_state(hparams, world), None, []
        seed_noise(hparams.seed, world)
    else:
        def restored(position: Position, tensors: dict, path: Path) -> tuple[Hparams, TrainingState]:
            same = with_pixels_of(hparams, position.hparams)
            _check_same_run(position, same, world)
            state = new_state(same, world)
            state.restore(position, tensors, path)
            return same, state

        (same, state), position, tensors, messages = load_state_folder(hparams.run_folder, restored)
        hparams, data = load_data(same, position.images)
        if not restore_noise(tensors["noise"][world.rank], hparams.seed, position.iteration, world):
            messages.append(f"the run was not saved on {world.device.type}: its noise begins anew, from seed {hparams.seed} "
                            f"and step {position.iteration}")
        messages.append(f"resumed at step {position.iteration} after {position.seconds:.0f} s of training")
    return hparams, data, state, position, messages


def _check_start(hparams: Hparams, world: World) -> None:
    """Raise HparamsError if the folder holds a run that would be mixed with this one, and without TensorBoard if needed."""
    may_be_there = hparams.test_eval or hparams.restore_path or hparams.restore_log_path or hparams.resume
    if world.is_main and (hparams.run_folder / LOG_FILE).exists() and not may_be_there:
        raise HparamsError(f"{hparams.run_folder} holds a run already, and nothing is overwritten: choose another --desc or "
                           "--save_dir, or resume it: --resume")
    if hparams.tensorboard:
        check_tensorboard()


def _check_same_run(position: Position, hparams: Hparams, world: World) -> None:
    """Raise HparamsError if a setting in MUST_STAY differs that --change does not name, or the number of ranks."""
    # A setting that is younger than the saved run has its default there.
    before = {name: position.hparams.get(name, getattr(Hparams, name)) for name in MUST_STAY}
    saved = vars(with_pixels_of(replace(hparams, **before), before))
    new = {name: getattr(hparams, name) for name in MUST_STAY if name not in hparams.changes}
    differing = {name: value for name, value in new.items() if value != saved[name]}
    if differing:
        words = "; ".join(f"{name} was {saved[name]!r}, is {value!r}" for name, value in differing.items())
        raise HparamsError(f"--resume continues the same run, but {words}: give the old value, or {_way_to(differing)}")
    if position.ranks != world.size:
        raise HparamsError(f"--resume needs the same ranks: there were {position.ranks}, now {world.size}")


def _way_to(differing: dict) -> str:
    """How a user gets these values into training."""
    if set(differing) <= set(CHANGEABLE):
        return f"change the run with --change {','.join(f'{name}={value}' for name, value in differing.items())}"
    return "begin a new run from its weights with --restore_path and --restore_ema_path"


def _is_finished(hparams: Hparams, position: Position | None) -> bool:
    """Whether the run has ended at this position, and `hparams` asks for no more updates or scores than it made."""
    if position is None or _end(hparams.run_folder) != position.iteration:
        return False
    asked, made = ([math.inf if each.get(name) is None else each[name] for name in ("num_iters", "num_epochs", "test_at_end")]
                   for each in (vars(hparams), position.hparams))
    return all(new <= old for new, old in zip(asked, made))


def _end(folder: Path) -> int | None:
    """The number of updates of a finished run, None for any other."""
    try:
        return json.loads((folder / FINISHED_FILE).read_text())["iteration"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_changes(position: Position, hparams: Hparams, log: RunLogger) -> None:
    """A line for people and a line for the readers of logs on each setting to which --change gives a new value."""
    for name, value in hparams.changes.items():
        if value != position.hparams[name]:
            log(f"changed at step {position.iteration}: {name} was {position.hparams[name]!r}, is {value!r}")
            log(type="hparam", key=name, value=value)


def _open_log(hparams: Hparams, world: World, first_step: int) -> RunLogger:
    board = TensorBoard(hparams.run_folder, first_step) if hparams.tensorboard and world.is_main else None
    return RunLogger(hparams.run_folder, world.is_main, board)


def log_start(hparams: Hparams, vae: VAE, world: World, log: RunLogger) -> None:
    """One line for each hyper-parameter, and two on the model and the machine."""
    for name, value in sorted(vars(hparams).items()):
        log(type="hparam", key=name, value=value)
    for name, value in (("mpi_size", world.size), ("local_rank", world.local_rank)):
        log(type="hparam", key=name, value=value)
    count = sum(parameter.numel() for parameter in vae.parameters())
    log(f"blocks: --enc_blocks {hparams.enc_blocks} --dec_blocks {hparams.dec_blocks}")
    log(f"{hparams.desc}: {count:,} parameters, {world.size} rank(s) on {world.device.type}, PyTorch {torch.__version__}")


def _say_first_rate(hparams: Hparams, vae: VAE, log: RunLogger) -> None:
    """A line if the scales alone give a new model a rate."""
    rate = vae.first_rate()
    if rate > NO_RATE and not hparams.restore_path:
        log(f"the scales of posteriors and priors start apart: the rate begins at {rate:.3g} nats/dim (docs/theory.md)")


def _reopen(folder: Path, position: Position | None) -> None:
    """Make the folder that of a run at `position`; what a finished run logged after its last state stays."""
    if position is None or _end(folder) != position.iteration:
        _rewind_logs(folder, position.log_sizes if position else {})
    (folder / FINISHED_FILE).unlink(missing_ok=True)


def _rewind_logs(folder: Path, sizes: dict) -> None:
    """Cut each log to its size in `sizes`, or to 0 if it has none there; append what is cut off to abandoned-NAME.

    A log that is shorter than its size has lost lines. An error message says so, and new lines begin on a line of their own.
    """
    for name in LOGS:
        log, size = folder / name, sizes.get(name, 0)
        _mend_shortened(log, size)
        if log.exists() and log.stat().st_size > size:
            with open(log, "rb+") as file, open(folder / f"abandoned-{name}", "ab") as rest:
                file.seek(size)
                shutil.copyfileobj(file, rest)
                file.truncate(size)


def _mend_shortened(log: Path, size: int) -> None:
    found = log.stat().st_size if log.exists() else 0
    if found >= size:
        return
    print(f"error: {log} has {found} bytes, it had {size} when the state was saved: lines are lost", file=sys.stderr)
    if found and not log.read_bytes().endswith(b"\n"):
        append_whole(log, b"\n")
