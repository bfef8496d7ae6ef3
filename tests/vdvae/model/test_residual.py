"""`--posterior residual`: the encoder's outputs are read in units of the prior."""

import pytest
import torch

from stable_params import Normal, ResidualNormal
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.settings.hparams import HparamsError
from vdvae.step.locate import locate_high_gradient
from vdvae.step.optimizer import make_optimizer
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep, average_of

RESIDUAL = ("--posterior", "residual")
every_prior = pytest.mark.parametrize("flags", [(), ("--prior_const1",), ("--prior_sigma_param", "upbounded1")])


def make_vae(hparams) -> VAE:
    """A model whose priors have left their initial zeros."""
    torch.manual_seed(0)
    vae = VAE(hparams)
    for block in vae.decoder.dec_blocks:
        torch.nn.init.normal_(block.prior.c4.weight, std=0.2)
        torch.nn.init.normal_(block.prior.c4.bias, std=0.5)
    return vae


def outputs_of(vae: VAE) -> list[torch.Tensor]:
    """What the posterior networks give in the next forward passes, block by block."""
    outputs = []
    for block in vae.decoder.dec_blocks:
        block.enc.c4.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    return outputs


@every_prior
def test_outputs_are_read_in_units_of_the_prior(small_hparams, small_batch, flags):
    vae = make_vae(small_hparams("--sigma_param", "explin", *flags, *RESIDUAL))
    outputs, elbo = outputs_of(vae), vae(*small_batch)
    for output, latent, kl in zip(outputs, elbo.latents, elbo.kl_per_block, strict=True):
        dmu, raw = output.chunk(2, dim=1)
        dsigma = torch.where(raw > 0, raw + 1, raw.exp())
        torch.testing.assert_close(latent.posterior.loc, latent.prior.loc + latent.prior.scale.sigma * dmu)
        torch.testing.assert_close(latent.posterior.scale.sigma, latent.prior.scale.sigma * dsigma)
        expected = 0.5 * (dsigma**2 + dmu**2 - 1) - dsigma.log()
        torch.testing.assert_close(kl, expected.sum(dim=(1, 2, 3)), rtol=1e-4, atol=1e-5)


@every_prior
def test_kl_is_that_of_the_two_normals(small_hparams, small_batch, flags):
    vae = make_vae(small_hparams("--sigma_param", "explin", *flags, *RESIDUAL)).double()
    for latent in vae.encode(small_batch.input.double()):
        plain = Normal(latent.posterior.loc, latent.posterior.scale)
        # The latents' Normals are float32: locations of order 1 are off by some eps.
        torch.testing.assert_close(latent.kl, plain.kl(latent.prior), rtol=1e-4, atol=1e-5)


def test_untrained_priors_are_standard_so_nothing_changes_yet(small_hparams, small_batch):
    elbos = []
    for flags in ((), RESIDUAL):
        torch.manual_seed(0)
        vae = VAE(small_hparams("--sigma_param", "explin", *flags))
        torch.manual_seed(1)
        elbos.append(vae(*small_batch))
    torch.testing.assert_close(elbos[1].negative_elbo, elbos[0].negative_elbo)
    torch.testing.assert_close(elbos[1].kl_per_block, elbos[0].kl_per_block)


def test_trained_weights_of_either_kind_load_and_mean_something_else(small_hparams, small_batch):
    absolute = make_vae(small_hparams("--sigma_param", "explin"))
    residual = VAE(small_hparams("--sigma_param", "explin", *RESIDUAL))
    residual.load_state_dict(absolute.state_dict())
    difference = residual(*small_batch).rate - absolute(*small_batch).rate
    assert (difference.abs() > 1e-3).all()


def test_the_kl_leaves_the_prior_of_its_own_block_alone(small_hparams, small_batch):
    for flags, reached in (((), True), (RESIDUAL, False)):
        vae = make_vae(small_hparams("--sigma_param", "explin", *flags))
        kl = vae(*small_batch).kl_per_block[0].sum()
        bias = vae.decoder.dec_blocks[0].prior.c4.bias
        assert torch.autograd.grad(kl, bias)[0].any() == reached


@pytest.mark.parametrize("flag", ["vanilla", "exp", "explin", "upbounded1", "bounded0.1_1", "softplus0.6931472"])
@pytest.mark.parametrize("const", [(), ("--prior_const1",)])
def test_updates_are_applied_with_any_parameterization(small_hparams, small_batch, flag, const):
    hparams = small_hparams("--sigma_param", flag, *const, *RESIDUAL)
    vae = make_vae(hparams)
    step = TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, World())
    before = [parameter.detach().clone() for parameter in vae.parameters()]
    reports = [PendingReport(step(*small_batch, 1e-4), i, 0, 0.0).read() for i in range(2)]
    assert [report.reasons for report in reports] == [{}, {}]
    assert sum(not torch.equal(now, old) for now, old in zip(vae.parameters(), before)) > len(before) / 2


@pytest.mark.parametrize("block", [1, 3])
def test_events_give_the_log_sigmas_of_the_posterior_itself(small_hparams, small_batch, block):
    vae = VAE(small_hparams("--sigma_param", "exp", *RESIDUAL))
    part = vae.decoder.dec_blocks[block]
    part.z_proj.weight.data.zero_()  # large draws stay out of the state
    part.prior.c4.bias.data[4:8] = -3.0
    part.enc.c4.bias.data[4:8] = 20.0
    origin = locate_high_gradient(vae(*small_batch))
    assert (origin.block, origin.prior_log_sigma_min, origin.prior_log_sigma_max) == (block, -3.0, -3.0)
    assert 16 < origin.posterior_log_sigma_min <= origin.posterior_log_sigma_max < 18


def test_a_narrow_prior_is_no_reason_for_a_high_gradient(small_hparams, small_batch):
    """The KL of a residual posterior does not depend on the prior: the block with the largest dmu is named."""
    vae = VAE(small_hparams("--sigma_param", "exp", *RESIDUAL))
    for block in (1, 3):
        vae.decoder.dec_blocks[block].z_proj.weight.data.zero_()
    vae.decoder.dec_blocks[1].prior.c4.bias.data[4:8] = -30.0
    vae.decoder.dec_blocks[3].enc.c4.bias.data[:4] = 5.0
    assert locate_high_gradient(vae(*small_batch)).block == 3


def test_latents_are_kept_without_their_graph(small_hparams, small_batch):
    for latent in make_vae(small_hparams("--sigma_param", "explin", *RESIDUAL))(*small_batch).latents:
        assert type(latent.posterior) is ResidualNormal
        parts = (latent.posterior, latent.posterior.delta, latent.posterior.prior)
        assert not any(t.requires_grad for part in parts for t in (part.loc, *part.scale))


def test_samples_come_from_the_prior_alone(small_hparams):
    images = []
    for flags in ((), RESIDUAL):
        vae = make_vae(small_hparams("--sigma_param", "explin", *flags))
        torch.manual_seed(2)
        images.append(vae.sample(2, temperature=0.7))
    assert torch.equal(*images)


def test_another_word_is_refused(small_hparams):
    with pytest.raises(HparamsError, match="'residul' .did you mean residual.*allowed: absolute, residual"):
        small_hparams("--posterior", "residul")
    assert small_hparams().posterior == "absolute"
