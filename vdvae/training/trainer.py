"""The training loop: batches to updates, updates to log lines, events, evaluations, sample sheets and checkpoints."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vdvae.step.acceleration import described, memory_format
from vdvae.saving.checkpoint import save_checkpoint
from vdvae.step.compilation import compile_parts
from vdvae.data import Splits
from vdvae.data.images import ImageSet
from vdvae.ranks.distributed import World, share_gradients
from vdvae.training.endings import NotSaved, SkipStreak, Stopped, Stuck
from vdvae.training.evaluate import evaluate
from vdvae.step.graphed_step import CudaGraph, GraphedStep
from vdvae.settings.hparams import Hparams
from vdvae.training.loader import TrainLoader
from vdvae.step.locate import Origin, locate_high_gradient, locate_loss, locate_nan_gradient, worst_part
from vdvae.records.log import FINISHED_FILE, RunLogger
from vdvae.step.optimizer import learning_rate
from vdvae.data.preprocess import Preprocess
from vdvae.training.progress import Progress
from vdvae.ranks.randomness import seed_noise
from vdvae.saving.resume import capture, check_fits, noise_state, restore, restore_noise
from vdvae.saving.run_state import Position, save_state
from vdvae.training.sample_sheet import write_sample_sheet
from vdvae.saving.start import TrainingState
from vdvae.step.step_report import PendingReport, StepReport
from vdvae.training.stop_signals import StopRequest
from vdvae.step.train_step import TrainStep
from vdvae.records.train_window import TrainWindow

EARLY_REPORTS = frozenset([1] + [2**k for k in range(3, 14)])  # updates since the start that are logged whatever the interval


class Trainer:
    """Trains `state` on `splits.train` and writes the run's files into the log's folder."""

    def __init__(self, hparams: Hparams, splits: Splits, state: TrainingState, log: RunLogger, world: World):
        self.hparams, self.splits, self.state = hparams, splits, state
        self.log, self.folder, self.world = log, log.folder, world
        self.preprocess = Preprocess(hparams.dataset_spec)  # of what is scored and drawn, in float32
        self.preprocess_training = Preprocess(hparams.dataset_spec, memory_format(hparams))
        self.loader = TrainLoader(splits.train, hparams, world)
        self.names = [name for name, _ in state.vae.named_parameters()]
        self.window = TrainWindow()
        self.pending: PendingReport | None = None
        self.last_time = self.start_time = time.perf_counter()
        self.seconds_before = self.waited = 0.0
        self.noise: list | None = None  # to take up once the data are on their way
        self.messages: list[str] = []
        self.streak, self.asked_to_stop, self.not_saved = SkipStreak(), False, ""
        shown = min(hparams.num_images_visualize, len(splits.valid))
        self.originals = splits.valid.__getitems__(list(range(shown)))

    def go_on(self, position: Position, tensors: dict, damages: list[str]) -> None:
        """Take up a saved run; raises HparamsError if it was not this one."""
        check_fits(position, self.hparams, self.world)
        restore(self.state, self.window, position, tensors)
        self.noise, self.seconds_before = tensors["noise"][self.world.rank], position.seconds
        self.messages = [*damages, f"resumed at step {position.iteration} after {position.seconds:.0f} s of training"]

    def run(self, stop: StopRequest) -> None:
        """Train until num_epochs or num_iters, then evaluate, draw and save once more.

        Raises Stopped after a signal, Stuck after max_consecutive_skips, NotSaved when the last save failed.
        """
        self.train_step = self._make_step()
        self.stop = stop
        if self.noise is None:
            seed_noise(self.hparams.seed, self.world)
        for message in (*self.messages, described(self.hparams)):
            self.log(message)
        self.progress = Progress(self.state.iteration, self._last_iteration(), self.world.is_main)
        for epoch in range(self.state.epoch, self.hparams.num_epochs):
            self._epoch(epoch)
            if self._is_done():
                break
            if epoch % self.hparams.epochs_per_eval == 0:
                self._evaluate()
        self._finish()

    def _make_step(self) -> TrainStep | GraphedStep:
        if self.hparams.compile:
            compile_parts(self.state.vae)
        model = share_gradients(self.state.vae, self.world, self.hparams.compress_gradients)
        step = TrainStep(model, self.state.average, self.state.optimizer, self.hparams, self.world, self.state.penalty)
        return GraphedStep(step, CudaGraph) if self.hparams.cuda_graphs else step

    def _epoch(self, epoch: int) -> None:
        """What is left of one epoch."""
        self.state.step_in_epoch = self.state.step_in_epoch if epoch == self.state.epoch else 0
        self.state.epoch = epoch
        batches = self.loader.epoch(epoch, self.state.step_in_epoch)
        if self.noise is not None:
            restore_noise(self.noise, self.world)
            self.noise = None
        for images in self._waiting(batches):
            if self._is_done():
                return
            self._update(images)
            self._end_early()

    def _waiting(self, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The batches, with the time that each is waited for."""
        while True:
            start = time.perf_counter()
            images = next(batches, None)
            self.waited += time.perf_counter() - start
            if images is None:
                return
            yield images

    def _end_early(self) -> None:
        if self.asked_to_stop:
            self._digest_last()
            self._save_state()
            self.progress.close()
            raise Stopped(f"stopped by a signal at step {self.state.iteration}: --resume goes on" + self.not_saved)
        limit = self.hparams.max_consecutive_skips
        if limit and self.state.consecutive_skips >= limit:
            self._save("stuck")
            self.progress.close()
            raise Stuck(self.streak.told(self.state.consecutive_skips, self.hparams))

    def _last_iteration(self) -> int:
        begun = self.state.iteration - self.state.step_in_epoch
        in_epochs = self.loader.steps_per_epoch * (self.hparams.num_epochs - self.state.epoch) + begun
        return in_epochs if self.hparams.num_iters is None else min(in_epochs, self.hparams.num_iters)

    def _is_done(self) -> bool:
        return self.hparams.num_iters is not None and self.state.iteration >= self.hparams.num_iters

    def _update(self, images: torch.Tensor) -> None:
        """One update; the report read here is the one of the update before."""
        iteration, hparams = self.state.iteration, self.hparams
        lr = learning_rate(hparams, iteration)
        batch = self.preprocess_training(images.to(self.world.device, non_blocking=True))
        result = self.train_step(batch.input, batch.target, lr, self.stop.name is not None)
        previous, self.pending = self.pending, PendingReport(result, iteration, self.state.epoch, lr)
        self._digest(previous)
        if iteration % hparams.iters_per_images == 0:
            self._draw()
        self.state.iteration += 1
        self.state.step_in_epoch += 1
        if self.state.iteration % hparams.iters_per_save == 0:
            self._save("latest")
        if self.state.iteration % hparams.iters_per_ckpt == 0:
            self._save(f"iter-{self.state.iteration}")

    def _digest(self, pending: PendingReport | None) -> None:
        """Count, show and log one update."""
        if pending is None:
            return
        report = pending.read()
        now = time.perf_counter()
        self.window.add(report, now - self.last_time, self.waited)
        self.last_time, self.waited = now, 0.0
        self.state.counters.add(report)
        self.progress.show(report, self.state.counters)
        self.asked_to_stop |= report.stop
        self.state.consecutive_skips = self.state.consecutive_skips + 1 if report.skipped else 0
        if report.skipped:
            self._write_events(pending, report)
        else:
            self.streak = SkipStreak()
        if report.iteration % self.hparams.iters_per_print == 0 or report.iteration - self.state.first_iteration in EARLY_REPORTS:
            self._log_window()

    def _log_window(self) -> None:
        record = self.window.summary()
        self.log(model=self.hparams.desc, type="train_loss", **record, **self.state.counters.totals())

    def _digest_last(self) -> None:
        pending, self.pending = self.pending, None
        self._digest(pending)

    def _flush(self) -> None:
        """Digest the last update and log what is not logged yet."""
        self._digest_last()
        if self.window.reports:
            self._log_window()

    def _write_events(self, pending: PendingReport, report: StepReport) -> None:
        """One line per reason and rank, each with what that rank found in its own tensors."""
        mine = {reason: _locate(reason, pending, self.names).as_dict()
                for reason, ranks in report.reasons.items() if self.world.rank in ranks}
        for rank, found in enumerate(self.world.gather_objects(mine)):
            for reason, origin in found.items():
                self.streak.add(reason, report.grad_norm, origin)
                self.log.event(step=report.iteration, epoch=report.epoch, rank=rank, reason=reason, skipped=report.skipped,
                               grad_norm=report.grad_norm, **report.losses[rank], **origin)

    def _evaluate(self) -> None:
        self._flush()
        figures = self._score(self.splits.valid)
        self.log(model=self.hparams.desc, type="eval_loss", epoch=self.state.epoch, step=self.state.iteration, **figures)
        self.last_time = time.perf_counter()

    def _score(self, images: ImageSet) -> dict:
        return evaluate(self.state.average, images, self.preprocess, self.hparams.n_batch, self.world, self.hparams.seed)

    def _draw(self) -> None:
        if self.world.is_main:
            path = self.folder / f"samples-{self.state.iteration}.png"
            with self._outliving_full_disks("sample sheet"):
                write_sample_sheet(path, self.state.average, self.originals, self.preprocess, self.hparams, self.world)
                self.log.sheet(path, self.state.iteration)
        self.last_time = time.perf_counter()

    def _save(self, name: str) -> None:
        """The original's four files; with latest-* the full state too. A disk that is full is told and outlived."""
        self._flush()
        self.not_saved = ""
        if self.world.is_main:
            self.log(f"checkpoint at step {self.state.iteration}: {self.folder / name}-*")
            with self._outliving_full_disks("checkpoint"):
                save_checkpoint(self.folder / name, self.state.vae, self.state.average, self.state.optimizer)
        self.world.barrier()
        if name == "latest":
            self._save_state()
        self.last_time = time.perf_counter()

    def _save_state(self) -> None:
        noises = self.world.gather_objects(noise_state(self.world))
        if self.world.is_main:
            seconds = self.seconds_before + time.perf_counter() - self.start_time
            with self._outliving_full_disks("checkpoint"):
                save_state(self.folder, *capture(self.state, self.window, seconds, self.hparams, self.folder, noises))
        self.world.barrier()

    @contextmanager
    def _outliving_full_disks(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.not_saved = f"; not saved: {error}"
            print(f"error: the {what} at step {self.state.iteration} could not be written, the one before it stays: "
                  f"{error}", file=sys.stderr)

    def _finish(self) -> None:
        self._evaluate()
        if self.hparams.test_at_end:
            figures = self._score(self.splits.test)
            self.log(model=self.hparams.desc, type="test_loss", step=self.state.iteration, **figures)
        self._draw()
        self._save("latest")
        self.progress.close()
        if self.world.is_main and not self.not_saved:
            with self._outliving_full_disks(FINISHED_FILE):
                partial = self.folder / f"{FINISHED_FILE}.partial"
                partial.write_text(json.dumps({"iteration": self.state.iteration, "epoch": self.state.epoch}))
                partial.replace(self.folder / FINISHED_FILE)
        lost = f"; {self.log.lost} lines of the logs are lost" if self.log.lost else ""
        if any(failures := self.world.gather_objects(self.not_saved + lost)):
            raise NotSaved(f"trained to step {self.state.iteration}" + "".join(failures))


def _locate(reason: str, pending: PendingReport, names: list[str]) -> Origin:
    elbo = worst_part(pending.result.elbos)
    if reason in ("rate_nan", "distortion_nan"):
        return locate_loss(elbo)
    if reason == "grad_nan":
        return locate_nan_gradient(elbo, names, pending.result.grad_norms)
    return locate_high_gradient(elbo)
