"""The importance-weighted bound: a linear Gaussian, the ELBO at one draw, ranks, the test_loss line."""

import json
import math

import numpy as np
import pytest
import torch

from stable_params import Exp
from vdvae.data.images import ArrayImages
from vdvae.data.preprocess import Preprocess
from vdvae.data.splits import load_splits
from vdvae.model.decoder import Latent, LatentScales
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.saving.training_state import new_vae
from vdvae.settings.hparams import HparamsError, load_hparams
from vdvae.training.evaluate import evaluate
from vdvae.training.importance import importance_weighted, log_mean_weight, log_weights, own_bounds

DIMENSIONS = 3  # of x, so that a mix-up of nats and nats per dimension shows


def drawn(loc: torch.Tensor, sigma: float, prior_loc: torch.Tensor, prior_sigma: float) -> Latent:
    """A latent with a draw from N(loc, sigma^2)."""
    posterior_out, prior_out = (torch.cat((mean, torch.full_like(mean, math.log(scale))), dim=1)
                                for mean, scale in ((loc, sigma), (prior_loc, prior_sigma)))
    scales = LatentScales(Exp(), Exp(), residual=False)
    posterior, prior = scales.normals(posterior_out, prior_out)
    return Latent(scales, posterior_out, prior_out, posterior.rsample(), posterior.kl(prior))


def gaussian_weights(draws: int, spread: float) -> torch.Tensor:
    """Log weights of x = 1.5 under z1 ~ N(0, 1), z2 ~ N(z1, 0.5), x ~ N(z2, 0.6), so x ~ N(0, 1 + 0.25 + 0.36).

    The posterior is the exact one, z1 given x and then z2 given z1 and x, with its standard deviations times `spread`.
    """
    x = torch.tensor(1.5)
    gain1, gain2 = 1 / 1.61, 0.25 / 0.61
    z1_mean = torch.full((draws, 1, 1, 1), gain1 * x)
    first = drawn(z1_mean, spread * math.sqrt(1 - gain1), torch.zeros_like(z1_mean), 1.0)
    second = drawn(first.z + gain2 * (x - first.z), spread * math.sqrt(0.25 * (1 - gain2)), first.z, 0.5)
    likelihood = Exp().normal(second.z, torch.full_like(second.z, math.log(0.6)))
    return log_weights(-likelihood.log_prob(x).flatten() / DIMENSIONS, [first, second], DIMENSIONS)


TRUTH = -0.5 * 1.5**2 / 1.61 - 0.5 * math.log(2 * math.pi * 1.61)


def test_every_draw_of_the_exact_posterior_weighs_the_likelihood():
    torch.manual_seed(0)
    weights = gaussian_weights(64, spread=1.0)
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights, torch.full((64,), TRUTH, dtype=torch.float64), rtol=0, atol=2e-6)


def test_bound_of_a_wide_posterior_rises_to_the_likelihood():
    """One draw gives the ELBO, log p(x) - KL(q || exact posterior): (s^2 - 1 - log s^2)/2 for each of two latents."""
    torch.manual_seed(0)
    weights = gaussian_weights(200_000, spread=1.3)
    means = {draws: log_mean_weight(weights.reshape(draws, -1)).mean().item() for draws in (1, 5, 50, 200_000)}
    assert means[1] == pytest.approx(TRUTH - (1.3**2 - 1 - math.log(1.3**2)), abs=0.01)
    assert means[1] < means[5] - 0.05 < means[50] - 0.05 < means[200_000]
    assert means[50] < TRUTH and means[200_000] == pytest.approx(TRUTH, abs=0.01)


def test_weights_far_below_float64s_smallest_number():
    weights = torch.tensor([[-9000.0], [-9000.0 + math.log(3)]], dtype=torch.float64)
    assert log_mean_weight(weights).item() == pytest.approx(-9000 + math.log(2), abs=1e-9)


@pytest.fixture()
def vae(small_hparams) -> VAE:
    torch.manual_seed(0)
    return VAE(small_hparams("--sigma_param", "explin", "--posterior", "residual"))


@pytest.fixture()
def preprocess(small_hparams) -> Preprocess:
    return Preprocess(small_hparams().dataset_spec)


def one_draw(vae: VAE, batch) -> np.ndarray:
    """The ELBO's terms at its own draw, by torch.distributions in float64: nats per dimension `[B]`."""
    score = vae(*batch)
    ratio = torch.zeros(len(batch.input), dtype=torch.float64)
    for latent in score.latents:
        p, q = (torch.distributions.Normal(each.loc.double(), each.scale.log_sigma.double().exp())
                for each in (latent.prior, latent.posterior))
        ratio += (q.log_prob(latent.z.double()) - p.log_prob(latent.z.double())).sum(dim=(1, 2, 3))
    return (score.distortion.double() + ratio / batch.target[0].numel()).detach().numpy()


def test_one_draw_is_the_elbo_at_the_same_noise(vae, images, preprocess):
    """The second batch too: one draw leaves the stream of noise where the ELBO does."""
    bounds = own_bounds(vae, images, preprocess, 4, World(), seed=3, samples=1)
    with own_noise(3, World()):
        parts = [one_draw(vae, preprocess(torch.from_numpy(images.array[part]))) for part in (slice(0, 4), slice(4, 7))]
    np.testing.assert_allclose(bounds.numpy(), np.concatenate(parts), rtol=1e-6)
    # the analytic rate is the mean of the drawn one
    many = np.mean([own_bounds(vae, images, preprocess, 7, World(), seed, 1).mean() for seed in range(30)])
    elbo = np.mean([evaluate(vae, images, preprocess, 7, World(), seed)["elbo"] for seed in range(30)])
    assert many == pytest.approx(elbo, rel=2e-3)


def test_the_mean_its_standard_error_and_training_noise(vae, images, preprocess):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    figures = importance_weighted(vae, images, preprocess, 3, World(), 1, samples=4)
    assert torch.equal(torch.randn(3), expected)
    assert figures == importance_weighted(vae, images, preprocess, 3, World(), 1, samples=4)
    bounds = own_bounds(vae, images, preprocess, 3, World(), 1, samples=4).numpy()
    assert len(bounds) == 7 and figures["importance_samples"] == 4
    assert figures["iw_elbo"] == pytest.approx(bounds.mean(), rel=1e-12)
    assert figures["iw_bits_per_dim"] == pytest.approx(bounds.mean() / math.log(2), rel=1e-12)
    error = bounds.std(ddof=1) / math.sqrt(7) / math.log(2)
    assert figures["iw_standard_error"] == pytest.approx(error, rel=1e-9)
    single = importance_weighted(vae, ArrayImages(images.array, [2]), preprocess, 3, World(), 1, samples=1)
    assert math.isnan(single["iw_standard_error"]) and not math.isnan(single["iw_elbo"])
    vae.decoder.dec_blocks[0].enc.c4.bias.data.fill_(torch.nan)
    broken = importance_weighted(vae, images, preprocess, 3, World(), 1, samples=2)
    assert math.isnan(broken["iw_elbo"]) and math.isnan(broken["iw_standard_error"])


def test_two_ranks_score_each_image_once_and_log_it(run_mpi, tmp_path):
    flags = ["--hps", "photos32_overfit", "--width", "8", "--zdim", "2", "--num_mixtures", "1",
             "--sigma_param", "explin",
             "--dec_blocks", "1x1,4m1,32m4", "--enc_blocks", "32d8,4d4,1x1", "--device", "cpu", "--n_batch", "3"]
    weights = tmp_path / "model.th"
    torch.manual_seed(0)
    torch.save(VAE(load_hparams(flags)).state_dict(), weights)
    flags += ["--test_eval", "--importance_samples", "3", "--restore_path", str(weights)]
    result = run_mpi(2, "train.py", *flags, "--save_dir", tmp_path, "--desc", "score")
    assert result.returncode == 0, result.stderr
    line = json.loads((tmp_path / "score" / "log.jsonl").read_text().splitlines()[-1])
    assert line["type"] == "test_loss" and line["importance_samples"] == 3 and "elbo" in line
    hparams = load_hparams(flags)
    images = load_splits(hparams.dataset, hparams.data_root, hparams.image_size, hparams.seed).test
    average = new_vae(hparams, World())[1]
    shares = [own_bounds(average, images, Preprocess(hparams.dataset_spec), 3, World(rank, 2), 0, 3) for rank in (0, 1)]
    bounds = torch.cat(shares).numpy()
    assert len(bounds) == line["n_images"] == len(images)
    assert line["iw_elbo"] == pytest.approx(bounds.mean(), rel=1e-5)
    assert line["iw_bits_per_dim"] == pytest.approx(bounds.mean() / math.log(2), rel=1e-5)
    error = bounds.std(ddof=1) / math.sqrt(len(bounds)) / math.log(2)
    assert line["iw_standard_error"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("flags, words", [
    (["--importance_samples", "5"], ["--importance_samples 5", "--test_eval"]),
    (["--importance_samples", "0", "--test_eval", "--restore_path", "x"], ["importance_samples is 0", "at least 1"]),
])
def test_flags_that_do_nothing_are_refused(flags, words):
    with pytest.raises(HparamsError) as caught:
        load_hparams(["--hps", "cifar10", *flags])
    assert all(word in str(caught.value) for word in words)
