"""One run from its hyper-parameters: prepare everything, then train or test."""

from vdvae.datasets import load_splits
from vdvae.distributed import World
from vdvae.evaluate import evaluate
from vdvae.hparams import Hparams
from vdvae.log import RunLogger
from vdvae.preprocess import Preprocess
from vdvae.start import load_state, load_vae, log_start, make_run_folder, run_folder
from vdvae.trainer import Trainer


def run(hparams: Hparams, world: World) -> None:
    """Train, or with test_eval score the test images; raises StartError before any work if the input cannot be used."""
    if hparams.test_eval:
        _test(hparams, world)
    else:
        _train(hparams, world)


def _train(hparams: Hparams, world: World) -> None:
    trainer = world.agree(lambda: _prepare_training(hparams, world))
    log_start(hparams, trainer.state.vae, world, trainer.log)
    trainer.run()


def _prepare_training(hparams: Hparams, world: World) -> Trainer:
    folder = run_folder(hparams, world)
    splits = load_splits(hparams.dataset, hparams.data_root, hparams.image_size, hparams.seed)
    trainer = Trainer(hparams, splits, load_state(hparams, world), RunLogger(folder, world.is_main), world)
    make_run_folder(folder, world)
    return trainer


def _test(hparams: Hparams, world: World) -> None:
    images, vae, log = world.agree(lambda: _prepare_test(hparams, world))
    log_start(hparams, vae, world, log)
    figures = evaluate(vae, images, Preprocess(hparams.dataset_spec), hparams.n_batch, world, hparams.seed)
    log(type="test_loss", **figures)


def _prepare_test(hparams: Hparams, world: World):
    folder = run_folder(hparams, world)
    images = load_splits(hparams.dataset, hparams.data_root, hparams.image_size, hparams.seed).test
    _, average = load_vae(hparams, world)
    make_run_folder(folder, world)
    return images, average, RunLogger(folder, world.is_main)
