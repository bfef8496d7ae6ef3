"""Devices of a whole update, checked without a GPU: a CUDA build of PyTorch computes shapes and devices alone.

Skipped on CPU builds. The backward pass is left out: autograd asks for a real device.
"""

import contextlib

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from stable_params import PARAMETERIZATIONS
from vdvae.data.preprocess import Batch
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.step.optimizer import make_optimizer
from vdvae.step.spectral import SpectralPenalty
from vdvae.step.train_step import TrainStep
from vdvae.training import importance

pytestmark = pytest.mark.skipif(torch.version.cuda is None or torch.__version__ < "2.11",
                                reason="a CPU build of PyTorch, or one that asks the driver for fake tensors too")
GPU = World(device=torch.device("cuda", 0))
FLAGS = [
    *(("--sigma_param", example.flag) for example in PARAMETERIZATIONS.values()),
    ("--prior_const1",), ("--posterior", "residual"), ("--checkpoint_blocks",), ("--accumulate_steps", 2),
    ("--spectral_reg", 0.1), ("--precision", "bf16"), ("--precision", "tf32"), ("--dataset", "folder"),
    ("--dataset", "ffhq_256", "--image_size", 8), ("--likelihood", "normal"), ("--likelihood", "bernoulli"),
    ("--likelihood", "normal", "--pixel_sigma_param", "global", "--dataset", "folder", "--bits", 16),
    ("--dataset", "folder", "--bits", 16),
]


@pytest.fixture()
def no_backward(monkeypatch):
    """Tensor.backward as gradients of zeros for the parameters of a model that the test appends."""
    models: list[VAE] = []

    def backward(loss: Tensor) -> None:
        assert loss.requires_grad and loss.device == GPU.device
        for parameter in models[0].parameters():
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    return models


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: " ".join(map(str, flags)))
def test_all_of_an_update_and_what_follows_stays_on_the_device(small_hparams, no_backward, monkeypatch, flags):
    hparams = small_hparams("--n_batch", 2, *flags)
    with FakeTensorMode():
        with GPU.device:
            vae, average = VAE(hparams), VAE(hparams).requires_grad_(False)
            batch = Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, 3))
        no_backward.append(vae)
        penalty = SpectralPenalty(vae, 0) if hparams.spectral_reg else None
        step = TrainStep(vae, average, make_optimizer(hparams, vae.parameters()), hparams, GPU, penalty)
        results = [step(*batch, 1e-3) for _ in range(2)]  # the second finds the optimizer's state
        found = [results[-1].losses, results[-1].skip, results[-1].stop, results[-1].grad_norms, average.sample(3, 0.8)]
        monkeypatch.setattr(importance, "own_noise", lambda *_: contextlib.nullcontext())
        monkeypatch.setattr(importance, "own_batches", lambda *_: [batch])
        found.append(importance.own_bounds(average, [], None, 2, GPU, 0, 2))
    assert {each.device for each in (*found, *vae.state_dict().values())} == {GPU.device}
