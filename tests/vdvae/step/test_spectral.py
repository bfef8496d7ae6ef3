"""The spectral penalty: its value and gradient against a singular value decomposition, and what it does to a run."""

import json

import pytest
import torch
from torch import nn

from tests.vdvae.runs import assert_same, stopping, train
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.records.run_log import read_run
from vdvae.settings.hparams import HparamsError
from vdvae.step.optimizer import make_optimizer
from vdvae.step.spectral import FIRST_STEPS, SpectralPenalty
from vdvae.step.train_step import TrainStep, average_of
from vdvae.training.endings import Stopped


@pytest.fixture()
def layers() -> nn.ModuleList:
    """Two convolutions of one shape, one of another, and a layer that is none."""
    torch.manual_seed(0)
    return nn.ModuleList([nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 1), nn.Linear(2, 2)])


def convolutions(model: nn.Module) -> list[nn.Parameter]:
    return [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def reference(model: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The sum and its gradients in float64."""
    weights = [weight.detach().double().requires_grad_() for weight in convolutions(model)]
    total = sum(torch.linalg.matrix_norm(weight.flatten(1), ord=2) for weight in weights)
    return total.detach(), torch.autograd.grad(total, weights)


def clear_gradients(model: nn.Module) -> None:
    for weight in convolutions(model):
        weight.grad = torch.zeros_like(weight)


def test_value_and_gradient_are_those_of_the_decomposition(layers):
    penalty = SpectralPenalty(layers, seed=1)
    for _ in range(300):
        clear_gradients(layers)
        total = penalty.add_gradient(0.5)
    expected, gradients = reference(layers)
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=0)
    for weight, gradient in zip(convolutions(layers), gradients):
        torch.testing.assert_close(weight.grad.double(), 0.5 * gradient, rtol=0, atol=1e-6)  # of a matrix of norm 0.5
    assert layers[3].weight.grad is None


def test_the_gradient_is_added_to_what_is_there(layers):
    penalty = SpectralPenalty(layers, seed=1)
    clear_gradients(layers)
    layers[0].weight.grad += 7.0
    penalty.add_gradient(1e-3)
    assert 7.0 < layers[0].weight.grad.max() < 7.001 and 6.999 < layers[0].weight.grad.min() < 7.0


def test_one_step_an_update_from_below(layers):
    """Each step comes nearer to the largest singular value, and never exceeds it."""
    penalty = SpectralPenalty(layers, seed=1)
    totals = []
    for _ in range(5):
        clear_gradients(layers)
        totals.append(penalty.add_gradient(1.0).item())
    assert totals == sorted(totals) and totals[0] < totals[1] < reference(layers)[0].item() * (1 + 1e-6)
    assert totals[0] > 0.98 * totals[-1]  # after FIRST_STEPS it is near already
    assert FIRST_STEPS == 10


def test_a_zero_weight_counts_nothing_and_is_followed_once_it_moves(layers):
    """Priors begin with a last convolution of zeros."""
    layers[2].weight.data.zero_()
    penalty = SpectralPenalty(layers, seed=1)
    clear_gradients(layers)
    penalty.add_gradient(1.0)
    assert layers[2].weight.grad.count_nonzero() == 0
    layers[2].weight.data.normal_()
    for _ in range(200):
        clear_gradients(layers)
        total = penalty.add_gradient(1.0)
    torch.testing.assert_close(total.double(), reference(layers)[0], rtol=1e-6, atol=0)


def test_a_step_descends_on_loss_and_penalty_and_logs_the_loss_alone(small_hparams, small_batch):
    """Singular values fall with the penalty; elbo is the same number with and without it."""
    sums, elbos = {}, {}
    for strength in (0.0, 1.0):
        hparams = small_hparams("--spectral_reg", strength, "--grad_clip", 1e9, "--skip_threshold", -1)
        torch.manual_seed(0)
        vae = VAE(hparams)
        penalty = SpectralPenalty(vae, 0) if strength else None
        step = TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, World(), penalty)
        results = [step(*small_batch, 1e-3) for _ in range(10)]
        sums[strength], elbos[strength] = reference(vae)[0], results[0].losses
        assert (results[0].spectral_norms is None) == (strength == 0.0)
    assert sums[1.0] < 0.99 * sums[0.0]
    assert torch.equal(elbos[0.0], elbos[1.0])


def test_a_stopped_run_goes_on_to_the_bit_and_logs_the_sum(tmp_path, monkeypatch):
    flags = ["--spectral_reg", 0.1, "--skip_threshold", 2]
    whole = train(tmp_path / "whole", *flags)
    with monkeypatch.context() as patch:
        stopping(patch, 3)
        with pytest.raises(Stopped):
            train(tmp_path / "stopped", *flags)
    with pytest.raises(Exception, match="spectral_reg was 0.1, is 0.2"):
        train(tmp_path / "stopped", *flags, "--spectral_reg", 0.2, "--resume")
    assert_same(train(tmp_path / "stopped", *flags, "--resume"), whole)
    lines = [json.loads(line) for line in (whole / "log.jsonl").open()]
    sums = [line["spectral_norms"] for line in lines if line.get("type") == "train_loss"]
    assert len(sums) > 1 and all(value > 0 for value in sums)
    assert read_run(whole).parameterization == "explin/spectral0.1"


def test_vectors_of_another_model_are_refused(layers):
    penalty = SpectralPenalty(layers, seed=1)
    with pytest.raises(ValueError, match="another model"):
        penalty.load(penalty.vectors[:-1])


@pytest.mark.parametrize("value", ["-1", "nan"])
def test_bad_strengths_are_refused(small_hparams, value):
    with pytest.raises(HparamsError, match="spectral_reg is"):
        small_hparams("--spectral_reg", value)
