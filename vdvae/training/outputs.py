"""What a run makes besides its updates: evaluations, sample sheets, checkpoints and the mark of its end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vdvae.data.files import written_whole
from vdvae.data.images import ImageSet
from vdvae.data.own.listing import first_names
from vdvae.data.preprocess import Preprocess
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import noise_state
from vdvae.records.log import FINISHED_FILE, RunLogger
from vdvae.saving.begin import LOGS
from vdvae.saving.checkpoint import save_checkpoint, save_log
from vdvae.saving.run_state import save_state
from vdvae.saving.training_state import TrainingState
from vdvae.settings.hparams import Hparams
from vdvae.training.evaluate import evaluate
from vdvae.training.loader import TrainingData
from vdvae.training.sample_sheet import write_sample_sheet


class Outputs:
    """Writes into the log's folder; training continues when the disk is full.

    `not_saved` says, for the message at the end of the run, why the last checkpoint could not be written; else it is empty.
    """

    def __init__(self, hparams: Hparams, data: TrainingData, state: TrainingState, log: RunLogger, world: World):
        self.hparams, self.data, self.state, self.log, self.world = hparams, data, state, log, world
        self.folder = log.folder
        self.preprocess = Preprocess(hparams.dataset_spec)  # float32, whatever layout training has
        self.not_saved, self.broken = "", 0

    @property
    def failures(self) -> str:
        """What could not be written, for the message at the end of the run."""
        return self.not_saved + (f"; {self.log.lost} lines of the logs are lost" if self.log.lost else "")

    def evaluate(self, kind: str, images: ImageSet) -> None:
        """Score the averaged weights on `images`, and log the loss as a line of type `kind`."""
        epoch = {"epoch": self.state.epoch} if kind == "eval_loss" else {}
        figures = evaluate(self.state.average, images, self.preprocess, self.hparams.n_batch, self.world, self.hparams.seed)
        self.log(model=self.hparams.desc, type=kind, **epoch, step=self.state.iteration, **figures)

    def draw(self) -> None:
        """Write a sample sheet."""
        if self.world.is_main:
            path = self.folder / f"samples-{self.state.iteration}.png"
            with self._surviving_full_disk("sample sheet"):
                write_sample_sheet(path, self.state.average, self.data.shown, self.preprocess, self.hparams, self.world)
                self.log.sheet(path, self.state.iteration)

    def save(self, name: str) -> None:
        """Write the original's four files under `name`; with the name latest also the full state, before them."""
        self.not_saved = ""
        self.log(f"checkpoint at step {self.state.iteration}: {self.folder / name}-*")
        if name == "latest":
            self._save_state()
        if self.world.is_main:
            with self._surviving_full_disk("checkpoint"):
                save_checkpoint(self.folder / name, self.state.vae, self.state.average, self.state.optimizer)
        self.world.barrier()

    def _save_state(self) -> None:
        """Write the full state, from which --resume continues."""
        noises = self.world.gather_objects(noise_state(self.world))
        self._log_broken()
        if self.world.is_main:
            sizes = {name: (self.folder / name).stat().st_size for name in LOGS if (self.folder / name).exists()}
            position = self.state.position(self.hparams, self.world.size, sizes, self.data.files)
            with self._surviving_full_disk("checkpoint"):
                save_state(self.folder, position, self.state.tensors(noises))
        self.world.barrier()

    def _log_broken(self) -> None:
        """Say which files any rank could not read since the process began, if there are more than last time."""
        broken = {path: message for of_rank in self.world.gather_objects(self.data.broken()) for path, message in of_rank.items()}
        if len(broken) > self.broken:
            self.log(f"the next image took the place of {len(broken)} that cannot be read: {first_names(list(broken.values()))}")
        self.broken = len(broken)

    def mark_finished(self) -> None:
        """Copy the log with the last evaluation to latest-*, and write FINISHED_FILE, unless the last checkpoint is missing."""
        self._log_broken()
        if self.world.is_main and not self.not_saved:
            with self._surviving_full_disk(FINISHED_FILE), written_whole(self.folder / FINISHED_FILE) as partial:
                save_log(self.folder / "latest")
                partial.write_text(json.dumps({"iteration": self.state.iteration, "epoch": self.state.epoch}))

    @contextmanager
    def _surviving_full_disk(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.not_saved = f"; not saved: {error}"
            print(f"error: the {what} at step {self.state.iteration} could not be written, the one before it stays: "
                  f"{error}", file=sys.stderr)
