"""Every figure of the original code, computed again here: losses, gradients, latents, samples, three updates."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vdvae.data.preprocess import Batch, Preprocess
from vdvae.data.spec import DatasetSpec
from vdvae.model.vae import VAE, Elbo
from vdvae.ranks.distributed import World
from vdvae.settings.hparams import Hparams, load_hparams
from vdvae.step.optimizer import make_optimizer
from vdvae.step.train_step import TrainStep, average_of

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "upstream_parity.json").read_text())
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 2e-4  # what golden/README.md states for a faithful implementation
NUDGES = 16
CASES = [(case, variant) for case, content in GOLDEN.items() for variant in content["results"]]


def case_hparams(case: str, variant: str) -> Hparams:
    config = GOLDEN[case]["config"]
    name, _, const = variant.partition("/")
    flags = ["--hps", "cifar10", "--sigma_param", name, "--image_size", str(config["image_size"]), *config["flags"]]
    flags += ["--prior_const1"] if const else []
    flags += ["--dataset", "ffhq_256"] if config["low_bit"] else []
    return load_hparams(flags)


def generated_weight(name: str, shape: torch.Size) -> torch.Tensor:
    a = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(tuple(shape))
    fan = int(np.prod(shape[1:])) if len(shape) == 4 and shape[0] != 1 else 1
    a = a / math.sqrt(fan) if fan > 1 else a * 0.1
    return torch.from_numpy((a + 1 if name.endswith("gain") else a).astype(np.float32))


def case_vae(hparams: Hparams, nudge: int = 0) -> VAE:
    """The case's model; with a `nudge` each weight moves by one unit in the last place up or down or not at all."""
    vae = VAE(hparams)
    vae.load_state_dict({name: generated_weight(name, value.shape) for name, value in vae.state_dict().items()})
    generator = torch.Generator().manual_seed(nudge)
    for parameter in vae.parameters() if nudge else ():
        parameter.data *= 1 + torch.randint(-1, 2, parameter.shape, generator=generator) * 2.0**-23
    return vae


def case_batch(case: str) -> Batch:
    config = GOLDEN[case]["config"]
    size, generator = config["image_size"], np.random.Generator(np.random.PCG64(7))
    images = generator.integers(0, 256, (config["n"], size, size, 3)).astype(np.uint8)
    spec = DatasetSpec("golden", size, config["shift"], config["scale"], config["low_bit"])
    return Preprocess(spec)(torch.from_numpy(images))


def close(value, expected, tolerance: float) -> None:
    torch.testing.assert_close(torch.as_tensor(value, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64),
                               rtol=tolerance, atol=0.0, equal_nan=True)


def close_or_undetermined(figures, expected, tolerance: float) -> None:
    """`figures(0)` is close to `expected`, or as near as float32 lets anyone come.

    Where a pixel's bin mass is near 1e-5, its gradient keeps few of float32's digits: one unit in the last place of the
    weights, or another processor's kernels, move some norms by percents. What nudged weights move is allowed there.
    """
    ours, expected = figures(0), torch.as_tensor(expected, dtype=torch.float64)
    allowed = tolerance * expected.abs()
    if not ((ours - expected).abs() <= allowed).all():
        allowed += torch.stack([(figures(nudge) - ours).abs() for nudge in range(1, NUDGES + 1)]).amax(dim=0)
    excess = (ours - expected).abs() / allowed
    assert (excess <= 1).all(), f"{int((excess > 1).sum())} figures are off, the worst by {excess.max():.3g} of what is allowed"


@pytest.mark.parametrize("case, variant", CASES)
def test_losses_latents_and_gradients(case, variant):
    expected, hparams, batch = GOLDEN[case]["results"][variant], case_hparams(case, variant), case_batch(case)

    def backward(nudge: int) -> tuple[Elbo, dict[str, torch.Tensor]]:
        vae = case_vae(hparams, nudge)
        torch.manual_seed(1234)
        elbo = vae(*batch)
        elbo.negative_elbo.backward()
        return elbo, {name: parameter.grad.norm().double() for name, parameter in vae.named_parameters()}

    elbo, norms = backward(0)
    close(elbo.negative_elbo, expected["elbo"], LOSS_TOLERANCE)
    close(elbo.distortion.mean(), expected["distortion"], LOSS_TOLERANCE)
    close(elbo.rate.mean(), expected["rate"], LOSS_TOLERANCE)
    close(elbo.kl_per_block.sum(dim=1), expected["kl_per_block"], LOSS_TOLERANCE)
    close([latent.z.abs().mean() for latent in elbo.latents], expected["z_abs_mean_per_block"], LOSS_TOLERANCE)
    assert norms.keys() == expected["grad_norms"].keys()

    def figures(nudge: int) -> torch.Tensor:
        each = torch.stack(list((backward(nudge)[1] if nudge else norms).values()))
        return torch.cat([each, each.norm().reshape(1)])

    close_or_undetermined(figures, [*(expected["grad_norms"][name] for name in norms), expected["grad_norm"]], GRADIENT_TOLERANCE)


@pytest.mark.parametrize("case, variant", CASES)
def test_free_and_partial_samples(case, variant):
    expected, batch = GOLDEN[case]["results"][variant], case_batch(case)
    vae = case_vae(case_hparams(case, variant))
    torch.manual_seed(1234)
    latents = [latent.z for latent in vae.encode(batch.input)[:2]]
    n = len(batch.input)
    for prefix, count, temperature, given in (("prior", 2, 1.0, []), ("partial", n, 1.0, latents), ("prior_t0.7", 2, 0.7, [])):
        if f"{prefix}_px_mean" in expected:
            torch.manual_seed(99)
            with torch.no_grad():
                state = vae.decoder.generate(count, temperature, given)
            close(state.mean(), expected[f"{prefix}_px_mean"], LOSS_TOLERANCE)
            close(state.std(), expected[f"{prefix}_px_std"], LOSS_TOLERANCE)


@pytest.mark.parametrize("case", GOLDEN)
def test_sampled_images(case):
    expected = GOLDEN[case]["results"]["vanilla"]
    vae = case_vae(case_hparams(case, "vanilla"))
    torch.manual_seed(99)
    images = vae.sample(2, temperature=0.7)
    assert images.dtype == torch.uint8 and list(images.shape) == expected["sample_shape"]
    close(images.double().sum(), expected["sample_t0.7_uint8_sum"], LOSS_TOLERANCE)


@pytest.mark.parametrize("case", GOLDEN)
def test_three_updates(case):
    expected = GOLDEN[case]["results"]["vanilla"]["train3"]
    hparams = Hparams(**{**vars(case_hparams(case, "vanilla")), "wd": expected["wd"], "ema_rate": expected["ema_rate"],
                         "adam_beta1": expected["betas"][0], "adam_beta2": expected["betas"][1], "skip_threshold": -1.0})
    batch = case_batch(case)

    def figures(nudge: int) -> torch.Tensor:
        vae = case_vae(hparams, nudge)
        average = average_of(vae)
        step = TrainStep(vae, average, make_optimizer(hparams, vae.parameters()), hparams, World())
        torch.manual_seed(5)
        losses = [step(*batch, expected["lr"]).elbos[0].negative_elbo.double() for _ in range(3)]
        return torch.stack([*losses, _norm(vae), _norm(average)])

    close_or_undetermined(figures, [*expected["elbos"], expected["param_norm"], expected["ema_norm"]], LOSS_TOLERANCE)


def _norm(model: VAE) -> torch.Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()]).norm()
