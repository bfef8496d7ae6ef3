"""The training loop: which update comes when, and when the run evaluates, draws, saves and ends."""

import time
from collections.abc import Iterator
from typing import NoReturn

import torch

from vdvae.data.preprocess import Preprocess
from vdvae.ranks.distributed import World, share_gradients
from vdvae.records.log import RunLogger
from vdvae.saving.training_state import TrainingState
from vdvae.settings.hparams import Hparams
from vdvae.step.acceleration import compile_parts, memory_format
from vdvae.step.graphed_step import CudaGraphs, GraphedStep
from vdvae.step.optimizer import learning_rate
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep
from vdvae.training.digest import Digest
from vdvae.training.endings import NotSaved, Stopped, Stuck
from vdvae.training.loader import TrainingData
from vdvae.training.outputs import Outputs
from vdvae.training.stop_signals import StopRequest


class Trainer:
    """Trains `state` on `data` and writes the run's files into the log's folder."""

    def __init__(self, hparams: Hparams, data: TrainingData, state: TrainingState, log: RunLogger, world: World,
                 stop: StopRequest):
        self.hparams, self.data, self.state, self.world, self.stop = hparams, data, state, world, stop
        self.preprocess = Preprocess(hparams.dataset_spec, memory_format(hparams))
        self.step = _make_step(hparams, state, world)
        self.digest = Digest(hparams, state, log, world, self._last_iteration())
        self.outputs = Outputs(hparams, data, state, log, world)

    def run(self) -> None:
        """Train until num_epochs or num_iters, then save, evaluate and draw.

        Raises Stopped after a signal, Stuck after max_consecutive_skips, NotSaved when the last save failed or log lines are lost.
        """
        for epoch in range(self.state.epoch, self.hparams.num_epochs):
            self._train_epoch(epoch)
            if self._is_done() or epoch + 1 == self.hparams.num_epochs:
                break
            if epoch % self.hparams.epochs_per_eval == 0:
                self._evaluate()
        self._finish()

    def _train_epoch(self, epoch: int) -> None:
        """The updates of one epoch that are still to be made."""
        self.state.step_in_epoch = self.state.step_in_epoch if epoch == self.state.epoch else 0
        self.state.epoch = epoch
        for images, seconds in _timed(self.data.train.epoch(epoch, self.state.step_in_epoch)):
            if self._is_done():
                return
            self._update(images, seconds)
            self._end_early()

    def _update(self, images: torch.Tensor, waited: float) -> None:
        """One update on a batch that took `waited` seconds to come. Meanwhile the host digests the update before it."""
        state, hparams = self.state, self.hparams
        lr = learning_rate(hparams, state.iteration)
        batch = self.preprocess(images.to(self.world.device, non_blocking=True))
        result = self.step(batch.input, batch.target, lr, self.stop.name is not None)
        self.digest.take(PendingReport(result, state.iteration, state.epoch, lr), waited)
        if state.iteration % hparams.iters_per_images == 0:
            self._draw()
        state.iteration += 1
        state.step_in_epoch += 1
        if state.iteration % hparams.iters_per_save == 0:
            self._save("latest")
        if state.iteration % hparams.iters_per_ckpt == 0:
            self._save(f"iter-{state.iteration}")

    def _end_early(self) -> None:
        if self.digest.asked_to_stop:
            self.digest.take(None)
            self.outputs.save("latest")
            self._stop()
        limit = self.hparams.max_consecutive_skips
        if limit and self.state.consecutive_skips >= limit:
            self._save("stuck")
            self.digest.close()
            raise Stuck(self.digest.streak.message(self.state.consecutive_skips, self.hparams) + self.outputs.not_saved)

    def _stop(self) -> NoReturn:
        self.digest.close()
        self._check_saved(self.outputs.not_saved, "stopped by a signal at")
        raise Stopped(f"stopped by a signal at step {self.state.iteration}: --resume continues the run{self.outputs.failures}")

    def _check_saved(self, failure: str, ending: str) -> None:
        """Raise NotSaved on all ranks if one has a `failure`."""
        if any(failures := self.world.gather_objects(failure)):
            raise NotSaved(f"{ending} step {self.state.iteration}" + "".join(failures))

    def _stop_if_asked(self) -> None:
        if any(self.world.gather_objects(self.stop.name)):
            self._stop()

    def _last_iteration(self) -> int:
        begun = self.state.iteration - self.state.step_in_epoch
        in_epochs = self.data.train.steps_per_epoch * (self.hparams.num_epochs - self.state.epoch) + begun
        return in_epochs if self.hparams.num_iters is None else min(in_epochs, self.hparams.num_iters)

    def _is_done(self) -> bool:
        return self.hparams.num_iters is not None and self.state.iteration >= self.hparams.num_iters

    def _evaluate(self) -> None:
        self.digest.flush()
        self.outputs.evaluate("eval_loss", self.data.valid)
        self.digest.restart_clock()

    def _draw(self) -> None:
        self.outputs.draw()
        self.digest.restart_clock()

    def _save(self, name: str) -> None:
        self.digest.flush()
        self.outputs.save(name)
        self.digest.restart_clock()

    def _finish(self) -> None:
        """Save first: whatever ends the process after that, no update is lost, and --resume only evaluates again."""
        self._save("latest")
        self._stop_if_asked()
        self._evaluate()
        self._stop_if_asked()
        if self.hparams.test_at_end:
            self.outputs.evaluate("test_loss", self.data.test)
            self._stop_if_asked()
        self._draw()
        self.digest.close()
        self.outputs.mark_finished()
        self._check_saved(self.outputs.failures, "trained to")


def _timed(batches: Iterator[torch.Tensor]) -> Iterator[tuple[torch.Tensor, float]]:
    """Each batch, and the seconds that it took to come."""
    start = time.perf_counter()
    for images in batches:
        yield images, time.perf_counter() - start
        start = time.perf_counter()


def _make_step(hparams: Hparams, state: TrainingState, world: World) -> TrainStep | GraphedStep:
    if hparams.compile:
        compile_parts(state.vae)
    model = state.vae if hparams.cuda_graphs else share_gradients(state.vae, world, hparams.compress_gradients)
    step = TrainStep(model, state.average, state.optimizer, hparams, world, state.penalty)
    return GraphedStep(step, CudaGraphs()) if hparams.cuda_graphs else step
