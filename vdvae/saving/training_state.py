"""Everything that training changes: made for a new run, written into a saved state, and set back to one."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vdvae.data.own.parts import Parts
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.records.train_window import Counters, TrainWindow
from vdvae.saving.checkpoint import (
    CheckpointError, check_shapes, named_tensors, restore_log, restore_optimizer, restore_weights, set_optimizer)
from vdvae.saving.run_state import Position
from vdvae.settings.hparams import Hparams
from vdvae.step.acceleration import memory_format
from vdvae.step.optimizer import make_optimizer, optimizer_file
from vdvae.step.spectral import SpectralPenalty
from vdvae.step.train_step import average_of


@dataclass
class TrainingState:
    """The model and its average, the optimizer, and where the run stands."""

    vae: VAE
    average: VAE
    optimizer: torch.optim.Optimizer
    penalty: SpectralPenalty | None  # of spectral_reg
    iteration: int = 0  # updates so far, skipped ones included
    epoch: int = 0
    counters: Counters = field(default_factory=Counters)
    first_iteration: int = 0  # updates that the run began with, those of the weights that it was given
    step_in_epoch: int = 0  # updates of this epoch so far
    consecutive_skips: int = 0  # updates skipped since the last one that was applied
    window: TrainWindow = field(default_factory=TrainWindow)
    start_time: float = field(default_factory=time.perf_counter)  # when training began, interruptions left out

    @property
    def seconds(self) -> float:
        """Seconds that the run has been training, in this process and in those before it."""
        return time.perf_counter() - self.start_time

    def position(self, hparams: Hparams, ranks: int, log_sizes: dict[str, int], images: Parts) -> Position:
        """What a saved state keeps of the run besides the tensors."""
        return Position(self.iteration, self.epoch, self.step_in_epoch, ranks, vars(hparams), self.counters,
                        self.window, self.seconds, self.first_iteration, self.consecutive_skips, log_sizes, images)

    def tensors(self, noises: list) -> dict:
        """The tensors of a saved state; `noises` has every rank's noise_state, in rank order."""
        tensors = {"model": self.vae.state_dict(), "average": self.average.state_dict(),
                   "optimizer": optimizer_file(self.optimizer), "noise": noises}
        return tensors | ({"singular_vectors": self.penalty.vectors} if self.penalty else {})

    def restore(self, position: Position, tensors: dict, path: Path) -> None:
        """Set everything except the noise to a saved state.

        Raises CheckpointError, naming `path` and what is wrong there, for tensors that do not fit this model and these ranks.
        """
        made = position.iteration - position.first_iteration - position.counters.skipped_updates
        self._check(tensors, position.ranks, made > 0, path)
        try:
            self.vae.load_state_dict(tensors["model"])
            self.average.load_state_dict(tensors["average"])
        except RuntimeError as error:
            raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error
        set_optimizer(self.optimizer, tensors["optimizer"], str(path))
        if self.penalty:
            self.penalty.load(tensors["singular_vectors"])
        self.iteration, self.epoch, self.step_in_epoch = position.iteration, position.epoch, position.step_in_epoch
        self.first_iteration, self.consecutive_skips = position.first_iteration, position.consecutive_skips
        self.counters, self.window = position.counters, position.window
        self.start_time = time.perf_counter() - position.seconds

    def _check(self, tensors: dict, ranks: int, has_moments: bool, path: Path) -> None:
        """Raise CheckpointError if a tensor is missing or too many, has another shape, or is no state of a generator."""
        moments = [{"step": torch.empty(()), "exp_avg": each, "exp_avg_sq": each} for each in self.vae.parameters()]
        found = {**tensors, "noise": []} if isinstance(tensors, dict) else {}
        has_moments |= any(name.startswith("optimizer.") for name in named_tensors(found))
        check_shapes(self.tensors([]) | {"optimizer": {"state": moments if has_moments else []}}, found, path)
        try:
            for rank in range(ranks):
                torch.Generator().set_state(tensors["noise"][rank][0])
        except (RuntimeError, TypeError, LookupError) as error:
            raise CheckpointError(f"{path}: noise is not a state of {ranks} ranks") from error


def new_vae(hparams: Hparams, world: World) -> tuple[VAE, VAE]:
    """The model and its average, with the weights of the files that the flags name; the same on all ranks.

    The weights have the layout of the activations, so that no convolution has to turn them.
    """
    torch.manual_seed(hparams.seed)
    vae = VAE(hparams).to(memory_format=memory_format(hparams))
    if hparams.restore_path:
        restore_weights(vae, hparams.restore_path)
    average = average_of(vae)
    if hparams.restore_ema_path:
        restore_weights(average, hparams.restore_ema_path)
    return vae.to(world.device), average.to(world.device)


def new_state(hparams: Hparams, world: World) -> TrainingState:
    """The state of a new run, with what is in the files that the flags name."""
    vae, average = new_vae(hparams, world)
    optimizer = make_optimizer(hparams, vae.parameters())
    if hparams.restore_optimizer_path:
        restore_optimizer(optimizer, hparams.restore_optimizer_path)
    penalty = SpectralPenalty(vae, hparams.seed) if hparams.spectral_reg else None
    if not hparams.restore_log_path:
        return TrainingState(vae, average, optimizer, penalty)
    iteration, epoch, counters = restore_log(hparams.restore_log_path)
    return TrainingState(vae, average, optimizer, penalty, iteration, epoch, counters, first_iteration=iteration)
