"""What a run starts from: its folder, its weights, optimizer, position and counters."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from vdvae.saving.checkpoint import restore_log, restore_optimizer, restore_weights
from vdvae.ranks.distributed import World
from vdvae.step.ema import average_of
from vdvae.settings.hparams import Hparams, HparamsError
from vdvae.records.log import LOG_FILE, RunLogger
from vdvae.step.optimizer import make_optimizer
from vdvae.step.spectral import SpectralPenalty
from vdvae.records.train_window import Counters
from vdvae.model.vae import VAE


@dataclass
class TrainingState:
    """Everything that training changes."""

    vae: VAE
    average: VAE
    optimizer: torch.optim.Optimizer
    iteration: int  # updates so far, skipped ones included
    epoch: int
    counters: Counters
    first_iteration: int = 0  # updates that the run began with, those of the weights that it was given
    step_in_epoch: int = 0  # updates of this epoch so far
    consecutive_skips: int = 0  # updates skipped since the last one that was applied
    penalty: SpectralPenalty | None = None  # of spectral_reg


def run_folder(hparams: Hparams, world: World) -> Path:
    """The run's folder, save_dir/desc, not made yet.

    Raises HparamsError when it holds another run already, unless this one goes on from a checkpoint or only tests.
    """
    folder = Path(hparams.save_dir) / hparams.desc
    goes_on = hparams.test_eval or hparams.restore_path or hparams.restore_log_path or hparams.resume
    if world.is_main and (folder / LOG_FILE).exists() and not goes_on:
        raise HparamsError(f"{folder} holds a run already, and nothing is overwritten: choose another --desc or "
                           "--save_dir, or go on with it: --resume")
    return folder


def make_run_folder(folder: Path, world: World) -> None:
    """Make the folder on the main rank, the one that writes; raises OSError if it cannot be made."""
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)


def log_start(hparams: Hparams, vae: VAE, world: World, log: RunLogger) -> None:
    """One line per hyper-parameter, and what the run is made of."""
    for name in sorted(field.name for field in fields(hparams)):
        log(type="hparam", key=name, value=getattr(hparams, name))
    for name, value in (("mpi_size", world.size), ("local_rank", world.local_rank)):
        log(type="hparam", key=name, value=value)
    count = sum(parameter.numel() for parameter in vae.parameters())
    log(f"{hparams.desc}: {count:,} parameters, {world.size} rank(s) on {world.device.type}, PyTorch {torch.__version__}")


def load_vae(hparams: Hparams, world: World) -> tuple[VAE, VAE]:
    """The model and its average, restored where the flags say so; the same on all ranks."""
    torch.manual_seed(hparams.seed)
    vae = VAE(hparams)
    if hparams.restore_path:
        restore_weights(vae, hparams.restore_path)
    average = average_of(vae)
    if hparams.restore_ema_path:
        restore_weights(average, hparams.restore_ema_path)
    return vae.to(world.device), average.to(world.device)


def load_state(hparams: Hparams, world: World) -> TrainingState:
    """Model, average, optimizer, position and counters to train from."""
    vae, average = load_vae(hparams, world)
    optimizer = make_optimizer(hparams, vae.parameters())
    if hparams.restore_optimizer_path:
        restore_optimizer(optimizer, hparams.restore_optimizer_path)
    iteration, epoch, counters = 0, 0, Counters()
    if hparams.restore_log_path:
        iteration, epoch, counters = restore_log(hparams.restore_log_path)
    penalty = SpectralPenalty(vae, hparams.seed) if hparams.spectral_reg else None
    return TrainingState(vae, average, optimizer, iteration, epoch, counters, first_iteration=iteration, penalty=penalty)
