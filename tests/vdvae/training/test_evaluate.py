"""Evaluation: every image once, NaN not hidden, training's noise untouched; and the sample sheet."""

import math

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from vdvae.data.images import ArrayImages
from vdvae.data.preprocess import Preprocess
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.training.evaluate import evaluate
from vdvae.training.sample_sheet import sheet_rows, tile, write_sample_sheet


@pytest.fixture()
def vae(small_hparams) -> VAE:
    torch.manual_seed(0)
    return VAE(small_hparams())


@pytest.fixture()
def preprocess(small_hparams) -> Preprocess:
    return Preprocess(small_hparams().dataset_spec)


def test_every_image_counts_once_whatever_the_batch_and_the_ranks(vae, images, preprocess, monkeypatch):
    """Seven images in batches of 3, or dealt to three ranks: the mean of the seven single scores, noise switched off."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    alone = [evaluate(vae, ArrayImages(images.array, [i]), preprocess, 1, World(), 0) for i in range(7)]
    whole = evaluate(vae, images, preprocess, 3, World(), 0)
    assert (whole["n_images"], whole["n_batches"]) == (7, 3)
    for key in ("elbo", "distortion", "rate", "bits_per_dim", "filtered_elbo"):
        # abs: the rate of an untrained model is a sum of terms near 0, each rounded by some 1e-8
        assert whole[key] == pytest.approx(np.mean([each[key] for each in alone]), rel=1e-5, abs=1e-8)
    assert whole["bits_per_dim"] == pytest.approx(whole["elbo"] / math.log(2))
    assert len(whole["rate_per_block"]) == len(vae.decoder.dec_blocks)
    for i, block in enumerate(whole["rate_per_block"]):
        assert block == pytest.approx(np.mean([each["rate_per_block"][i] for each in alone]), rel=1e-5, abs=1e-8)
    assert sum(whole["rate_per_block"]) == pytest.approx(whole["rate"], rel=1e-6)
    shares = []
    monkeypatch.setattr(World, "sum", lambda world, values: shares.append(values.clone()) or values)
    for rank in range(3):
        evaluate(vae, images, preprocess, 2, World(rank, 3), 0)
    elbo, _, _, count, *_ = torch.stack(shares).sum(dim=0).tolist()
    assert count == 7 and elbo / count == pytest.approx(whole["elbo"], rel=1e-5)


def test_nan_shows_in_the_score(vae, images, preprocess):
    vae.decoder.dec_blocks[0].enc.c4.bias.data.fill_(torch.nan)
    figures = evaluate(vae, images, preprocess, 4, World(), 0)
    assert math.isnan(figures["elbo"]) and math.isnan(figures["filtered_elbo"])


def test_evaluation_repeats_and_leaves_trainings_noise_alone(vae, images, preprocess):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    first = evaluate(vae, images, preprocess, 4, World(), 1)
    assert evaluate(vae, images, preprocess, 4, World(), 1) == first
    assert evaluate(vae, images, preprocess, 4, World(), 2) != first
    assert torch.equal(torch.randn(3), expected)


def test_sample_sheet_has_originals_reconstructions_and_samples(vae, images, preprocess, small_hparams, tmp_path):
    hparams = small_hparams("--num_variables_visualize", 2, "--num_temperatures_visualize", 3)
    originals = images.__getitems__([0, 1, 2, 3])
    rows = sheet_rows(vae, originals, preprocess, hparams)
    assert len(rows) == 1 + 2 + 3 and all(row.shape == (4, 8, 8, 3) and row.dtype == torch.uint8 for row in rows)
    assert torch.equal(rows[0], originals)
    path = tmp_path / "sheet.png"
    state = torch.get_rng_state()
    write_sample_sheet(path, vae, originals, preprocess, hparams, World())
    assert torch.equal(torch.get_rng_state(), state)
    sheet = imageio.imread(path)
    assert sheet.shape == (6 * 8, 4 * 8, 3)
    assert np.array_equal(sheet[:8, 8:16], images.array[1])
    assert np.array_equal(tile(rows)[:8], sheet[:8])


def test_reconstructions_take_the_first_latents_from_the_posterior(vae, images, preprocess, small_hparams, monkeypatch):
    calls = []
    monkeypatch.setattr(VAE, "sample", lambda self, n, t, latents=(): calls.append((t, len(latents))) or torch.zeros(n, 8, 8, 3))
    hparams = small_hparams("--num_variables_visualize", 3, "--num_temperatures_visualize", 4)
    sheet_rows(vae, images.__getitems__([0, 1]), preprocess, hparams)
    assert calls == [(0.1, 1), (0.1, 2), (0.1, 3), (1.0, 0), (0.9, 0), (0.8, 0), (0.7, 0)]
