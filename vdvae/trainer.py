"""The training loop: batches to updates, updates to log lines, events, evaluations, sample sheets and checkpoints."""

import time

import torch

from vdvae.checkpoint import save_checkpoint
from vdvae.datasets import Splits
from vdvae.distributed import World, share_gradients
from vdvae.evaluate import evaluate
from vdvae.hparams import Hparams
from vdvae.loader import TrainLoader
from vdvae.locate import Origin, locate_high_gradient, locate_loss, locate_nan_gradient
from vdvae.log import RunLogger
from vdvae.optimizer import learning_rate
from vdvae.preprocess import Preprocess
from vdvae.progress import Progress
from vdvae.randomness import seed_noise
from vdvae.sample_sheet import write_sample_sheet
from vdvae.start import TrainingState
from vdvae.step_report import PendingReport, StepReport
from vdvae.train_step import TrainStep
from vdvae.train_window import TrainWindow

EARLY_REPORTS = frozenset([1] + [2**k for k in range(3, 14)])  # updates since the start that are logged whatever the interval


class Trainer:
    """Trains `state` on `splits.train` and writes the run's files into the log's folder."""

    def __init__(self, hparams: Hparams, splits: Splits, state: TrainingState, log: RunLogger, world: World):
        self.hparams, self.splits, self.state = hparams, splits, state
        self.log, self.folder, self.world = log, log.folder, world
        self.preprocess = Preprocess(hparams.dataset_spec)
        self.loader = TrainLoader(splits.train, hparams, world)
        self.names = [name for name, _ in state.vae.named_parameters()]
        self.window = TrainWindow()
        self.pending: PendingReport | None = None
        self.last_time = time.perf_counter()
        self.first_iteration = state.iteration
        shown = min(hparams.num_images_visualize, len(splits.valid))
        self.originals = splits.valid.__getitems__(list(range(shown)))

    def run(self) -> None:
        """Train until num_epochs or num_iters, then evaluate, draw and save once more."""
        model = share_gradients(self.state.vae, self.world)
        self.train_step = TrainStep(model, self.state.average, self.state.optimizer, self.hparams, self.world)
        seed_noise(self.hparams.seed, self.world)
        self.progress = Progress(self.state.iteration, self._last_iteration(), self.world.is_main)
        for epoch in range(self.state.epoch, self.hparams.num_epochs):
            self.state.epoch = epoch
            for images in self.loader.epoch(epoch):
                if self._is_done():
                    break
                self._update(images)
            if self._is_done():
                break
            if epoch % self.hparams.epochs_per_eval == 0:
                self._evaluate()
        self._finish()

    def _last_iteration(self) -> int:
        in_epochs = self.loader.steps_per_epoch * (self.hparams.num_epochs - self.state.epoch) + self.state.iteration
        return in_epochs if self.hparams.num_iters is None else min(in_epochs, self.hparams.num_iters)

    def _is_done(self) -> bool:
        return self.hparams.num_iters is not None and self.state.iteration >= self.hparams.num_iters

    def _update(self, images: torch.Tensor) -> None:
        """One update; the report read here is the one of the update before."""
        iteration, hparams = self.state.iteration, self.hparams
        lr = learning_rate(hparams, iteration)
        batch = self.preprocess(images.to(self.world.device, non_blocking=True))
        result = self.train_step(batch.input, batch.target, lr)
        previous, self.pending = self.pending, PendingReport(result, iteration, self.state.epoch, lr)
        self._digest(previous)
        if iteration % hparams.iters_per_images == 0:
            self._draw()
        self.state.iteration += 1
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
        self.window.add(report, now - self.last_time)
        self.last_time = now
        self.state.counters.add(report)
        self.progress.show(report, self.state.counters)
        if report.skipped:
            self._write_events(pending, report)
        if report.iteration % self.hparams.iters_per_print == 0 or report.iteration - self.first_iteration in EARLY_REPORTS:
            self._log_window()

    def _log_window(self) -> None:
        record = self.window.summary()
        self.log(model=self.hparams.desc, type="train_loss", **record, **self.state.counters.totals())

    def _flush(self) -> None:
        """Digest the last update and log what is not logged yet."""
        pending, self.pending = self.pending, None
        self._digest(pending)
        if self.window.reports:
            self._log_window()

    def _write_events(self, pending: PendingReport, report: StepReport) -> None:
        """One line per reason and rank, each with what that rank found in its own tensors."""
        mine = {reason: _locate(reason, pending, self.names).as_dict()
                for reason, ranks in report.reasons.items() if self.world.rank in ranks}
        for rank, found in enumerate(self.world.gather_objects(mine)):
            for reason, origin in found.items():
                self.log.event(step=report.iteration, epoch=report.epoch, rank=rank, reason=reason, skipped=report.skipped,
                               grad_norm=report.grad_norm, **report.losses[rank], **origin)

    def _evaluate(self) -> None:
        self._flush()
        figures = evaluate(self.state.average, self.splits.valid, self.preprocess, self.hparams.n_batch, self.world,
                           self.hparams.seed)
        self.log(model=self.hparams.desc, type="eval_loss", epoch=self.state.epoch, step=self.state.iteration, **figures)
        self.last_time = time.perf_counter()

    def _draw(self) -> None:
        if self.world.is_main:
            path = self.folder / f"samples-{self.state.iteration}.png"
            write_sample_sheet(path, self.state.average, self.originals, self.preprocess, self.hparams, self.world)
            self.log(f"samples: {path}")
        self.last_time = time.perf_counter()

    def _save(self, name: str) -> None:
        self._flush()
        if self.world.is_main:
            self.log(f"checkpoint at step {self.state.iteration}: {self.folder / name}-*")
            save_checkpoint(self.folder / name, self.state.vae, self.state.average, self.state.optimizer)
        self.world.barrier()
        self.last_time = time.perf_counter()

    def _finish(self) -> None:
        self._evaluate()
        self._draw()
        self._save("latest")
        self.progress.close()


def _locate(reason: str, pending: PendingReport, names: list[str]) -> Origin:
    if reason in ("rate_nan", "distortion_nan"):
        return locate_loss(pending.result.elbo)
    if reason == "grad_nan":
        return locate_nan_gradient(pending.result.elbo, names, pending.result.grad_norms)
    return locate_high_gradient(pending.result.elbo)
