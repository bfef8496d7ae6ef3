"""One run from its hyper-parameters: prepare everything, then train or test."""

from vdvae.data.preprocess import Preprocess
from vdvae.ranks.distributed import World
from vdvae.saving.begin import begin_or_resume, begin_test
from vdvae.saving.owner import owned
from vdvae.saving.pixels import with_pixels_of_weights
from vdvae.settings.hparams import Hparams
from vdvae.step.acceleration import allow_tf32, choose_kernels, for_device
from vdvae.training.evaluate import evaluate
from vdvae.training.importance import importance_weighted
from vdvae.training.loader import load_measured, load_training_data
from vdvae.training.stop_signals import StopRequest, listening
from vdvae.training.trainer import Trainer


def run(hparams: Hparams, world: World) -> None:
    """Train, or with test_eval score the test images; raises StartError before any work if the input cannot be used."""
    hparams = world.agree(lambda: for_device(hparams, world.device, world.size))
    allow_tf32(False)  # tf32_in_training allows it where it was asked for
    choose_kernels(hparams.deterministic, world.device)
    train_or_test = _test if hparams.test_eval else _train
    with owned(hparams.run_folder, world):
        train_or_test(hparams, world)


def _train(hparams: Hparams, world: World) -> None:
    begun = begin_or_resume(hparams, world, lambda hparams, known: load_training_data(hparams, world, known))
    if begun is None:
        return
    hparams, data, state, log = begun
    for note in data.train.notes:
        log(note)
    with listening(StopRequest()) as stop:
        Trainer(hparams, data, state, log, world, stop).run()


def _test(hparams: Hparams, world: World) -> None:
    hparams, splits = world.agree(lambda: load_measured(with_pixels_of_weights(hparams), None))
    images = splits.test
    vae, log = begin_test(hparams, world)
    for note in images.notes:
        log(note)
    what = (vae, images, Preprocess(hparams.dataset_spec), hparams.n_batch, world, hparams.seed)
    figures = evaluate(*what)
    if hparams.importance_samples:
        figures |= importance_weighted(*what, hparams.importance_samples)
    log(type="test_loss", **figures)
