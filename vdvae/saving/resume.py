"""A run's state between memory and run_state's folders, and its logs back to where that state was saved."""

import shutil
import sys
from dataclasses import asdict, fields
from pathlib import Path

import torch

from vdvae.ranks.distributed import World
from vdvae.settings.hparams import Hparams, HparamsError
from vdvae.records.log import EVENTS_FILE, LOG_FILE, TEXT_FILE, append_whole
from vdvae.step.optimizer import load_optimizer_file, optimizer_file
from vdvae.saving.run_state import Position
from vdvae.saving.start import TrainingState
from vdvae.step.step_report import StepReport
from vdvae.records.train_window import Counters, TrainWindow

LOGS = (LOG_FILE, TEXT_FILE, EVENTS_FILE)
FREE = {  # settings that may differ when a run goes on: how long, how it reports, where it runs
    *("num_epochs", "num_iters", "max_consecutive_skips", "num_workers", "device", "port", "data_root"),
    *("precision", "compile", "cuda_graphs", "checkpoint_blocks", "accumulate_steps", "compress_gradients", "plain"),
    *("iters_per_print", "iters_per_images", "iters_per_save", "iters_per_ckpt", "epochs_per_eval"),
    *("num_images_visualize", "num_variables_visualize", "num_temperatures_visualize"),
    *("desc", "save_dir", "hps", "resume", "tensorboard", "test_at_end", "test_eval", "importance_samples"),
    *("restore_path", "restore_ema_path", "restore_optimizer_path", "restore_log_path"),  # taken in long ago
}


def noise_state(world: World) -> list:
    """The state of this rank's random generators: CPU, and its GPU's."""
    cuda = [torch.cuda.get_rng_state(world.device)] if world.device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def restore_noise(states: list, world: World) -> None:
    """What noise_state gave, back in place."""
    torch.set_rng_state(states[0])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(states[1], world.device)


def capture(
    state: TrainingState, window: TrainWindow, seconds: float, hparams: Hparams, folder: Path, noises: list
) -> tuple[Position, dict]:
    """All that the next update depends on; `noises` are every rank's noise_state, in rank order."""
    values = {field.name: getattr(hparams, field.name) for field in fields(hparams)}
    reports = {"reports": [asdict(report) for report in window.reports], "seconds": window.seconds, "waits": window.waits}
    sizes = {name: (folder / name).stat().st_size for name in LOGS if (folder / name).exists()}
    position = Position(state.iteration, state.epoch, state.step_in_epoch, len(noises), values, asdict(state.counters),
                        reports, seconds, state.first_iteration, state.consecutive_skips, sizes)
    tensors = {"model": state.vae.state_dict(), "average": state.average.state_dict(),
               "optimizer": optimizer_file(state.optimizer), "noise": noises}
    if state.penalty:
        tensors["singular_vectors"] = state.penalty.vectors
    return position, tensors


def check_fits(position: Position, hparams: Hparams, world: World) -> None:
    """Raises HparamsError when the saved run had other hyper-parameters, but for FREE, or another number of ranks."""
    saved = {field.name: position.hparams.get(field.name, field.default) for field in fields(hparams)}
    differing = [f"{name} was {value!r}, is {getattr(hparams, name)!r}" for name, value in saved.items()
                 if name not in FREE and value != getattr(hparams, name)]
    if differing:
        raise HparamsError("--resume goes on with the same run, but " + "; ".join(differing))
    if position.ranks != world.size:
        raise HparamsError(f"--resume goes on with the same ranks: there were {position.ranks}, now {world.size}")


def restore(state: TrainingState, window: TrainWindow, position: Position, tensors: dict) -> None:
    """Weights, average, optimizer, position, counters and window as they were saved; noise is restore_noise's."""
    state.vae.load_state_dict(tensors["model"])
    state.average.load_state_dict(tensors["average"])
    load_optimizer_file(state.optimizer, tensors["optimizer"])
    if state.penalty:
        state.penalty.load(tensors["singular_vectors"])
    state.iteration, state.epoch, state.step_in_epoch = position.iteration, position.epoch, position.step_in_epoch
    state.first_iteration, state.consecutive_skips = position.first_iteration, position.consecutive_skips
    state.counters = Counters(**position.counters)
    window.reports = [StepReport(**report) for report in position.window["reports"]]
    window.seconds, window.waits = position.window["seconds"], position.window["waits"]


def rewind_logs(folder: Path, sizes: dict) -> None:
    """Cut each log to its size in `sizes`, 0 if it is not there; what is cut off goes to the end of abandoned-NAME.

    A log that is shorter than it was has lost lines: that is told, and it goes on on a line of its own.
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
