"""`vdvae.load`: the model, the settings and the preprocessing of a run."""

import torch

import vdvae
from tests.vdvae.conftest import RUN_FLAGS
from vdvae.ranks.distributed import World
from vdvae.training.evaluate import evaluate


def test_a_loaded_run_scores_and_draws_as_the_run_would(run, vae, images, small_hparams):
    loaded = vdvae.load(str(run))
    assert loaded.hparams == small_hparams(*RUN_FLAGS)
    assert isinstance(loaded.preprocess, vdvae.Preprocess)
    scores = [evaluate(each, images, loaded.preprocess, 4, World(), seed=1) for each in (vae, loaded.vae)]
    assert scores[0] == scores[1]
    assert not any(parameter.requires_grad for parameter in loaded.vae.parameters())


def test_the_lines_of_the_notebook(run, images):
    """As README and docs/runs.md have them."""
    model, hparams, preprocess = vdvae.load(run)
    elbo = model(*preprocess(images.__getitems__([0, 1])))
    assert elbo.negative_elbo.isfinite() and elbo.kl_per_block.shape == (5, 2)
    drawn = model.sample(4, temperature=0.7)
    assert drawn.shape == (4, hparams.image_size, hparams.image_size, 3) and drawn.dtype == torch.uint8
