"""One run from its hyper-parameters: prepare everything, then train or test."""

from pathlib import Path

from vdvae.step.acceleration import allow_tf32, settled
from vdvae.data import load_splits
from vdvae.ranks.distributed import World
from vdvae.training.evaluate import evaluate
from vdvae.settings.hparams import Hparams
from vdvae.training.importance import importance_weighted
from vdvae.records.log import RunLogger
from vdvae.data.preprocess import Preprocess
from vdvae.saving.resume import rewind_logs
from vdvae.saving.run_state import Position, load_state_folder, saved_states
from vdvae.saving.start import load_state, load_vae, log_start, make_run_folder, run_folder
from vdvae.training.stop_signals import StopRequest, listening
from vdvae.records.tensorboard import TensorBoard, check_tensorboard
from vdvae.training.trainer import Trainer


def run(hparams: Hparams, world: World) -> None:
    """Train, or with test_eval score the test images; raises StartError before any work if the input cannot be used."""
    hparams = world.agree(lambda: settled(hparams, world.device, world.size))
    allow_tf32(False)  # but for training passes that ask for it
    if hparams.test_eval:
        _test(hparams, world)
    else:
        _train(hparams, world)


def _train(hparams: Hparams, world: World) -> None:
    trainer, saved = world.agree(lambda: _prepare_training(hparams, world))
    if hparams.resume and world.is_main:
        rewind_logs(trainer.folder, saved.log_sizes if saved else {})
    _add_board(trainer.log, hparams, trainer.state.iteration)
    if saved is None:
        log_start(hparams, trainer.state.vae, world, trainer.log)
    with listening(StopRequest()) as stop:
        trainer.run(stop)


def _add_board(log: RunLogger, hparams: Hparams, first_step: int) -> None:
    if hparams.tensorboard and log.is_main:
        log.board = TensorBoard(log.folder, first_step)


def _prepare_training(hparams: Hparams, world: World) -> tuple[Trainer, Position | None]:
    folder = run_folder(hparams, world)
    if hparams.tensorboard:
        check_tensorboard()
    splits = load_splits(hparams.dataset, hparams.data_root, hparams.image_size, hparams.seed)
    saved = _saved(hparams, folder)
    trainer = Trainer(hparams, splits, load_state(hparams, world), RunLogger(folder, world.is_main), world)
    if saved is not None:
        trainer.go_on(*saved)
    make_run_folder(folder, world)
    return trainer, saved[0] if saved else None


def _saved(hparams: Hparams, folder: Path) -> tuple[Position, dict, list[str]] | None:
    """The state to go on from; None to begin."""
    if not hparams.resume or (hparams.resume == "auto" and not saved_states(folder)):
        return None
    return load_state_folder(folder)


def _test(hparams: Hparams, world: World) -> None:
    images, vae, log = world.agree(lambda: _prepare_test(hparams, world))
    _add_board(log, hparams, 0)
    log_start(hparams, vae, world, log)
    what = (vae, images, Preprocess(hparams.dataset_spec), hparams.n_batch, world, hparams.seed)
    figures = evaluate(*what)
    if hparams.importance_samples:
        figures |= importance_weighted(*what, hparams.importance_samples)
    log(type="test_loss", **figures)


def _prepare_test(hparams: Hparams, world: World):
    folder = run_folder(hparams, world)
    if hparams.tensorboard:
        check_tensorboard()
    images = load_splits(hparams.dataset, hparams.data_root, hparams.image_size, hparams.seed).test
    _, average = load_vae(hparams, world)
    make_run_folder(folder, world)
    return images, average, RunLogger(folder, world.is_main)
