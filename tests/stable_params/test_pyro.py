import copy

import pytest
import torch

import stable_params
from stable_params import Exp

pyro = pytest.importorskip("pyro")
from pyro.distributions import Normal  # noqa: E402
from pyro.distributions.torch_distribution import TorchDistributionMixin  # noqa: E402
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO  # noqa: E402

ELBOS = [Trace_ELBO, TraceMeanField_ELBO]
BATCH, PIXELS, LATENTS = 8, 6, 2


class StableNormal(stable_params.StableNormal, TorchDistributionMixin):
    """What the README tells a user of Pyro to write."""


def stable(loc, log_sigma):
    return StableNormal.from_raw(loc, log_sigma, Exp())


def plain(loc, log_sigma):
    return Normal(loc, log_sigma.exp(), validate_args=True)  # torch.compile turns the default off


class VAE(torch.nn.Module):
    """A linear VAE whose prior is learnt too; `make(loc, log_sigma)` is the one place that names a distribution."""

    def __init__(self, make, log_sigma=0.0):
        super().__init__()
        self.make = make
        self.encoder, self.decoder = torch.nn.Linear(PIXELS, 2 * LATENTS), torch.nn.Linear(LATENTS, PIXELS)
        self.prior = torch.nn.Parameter(torch.zeros(2, LATENTS))
        with torch.no_grad():
            self.encoder.bias[LATENTS:] += log_sigma

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", self.make(*self.prior).expand([len(x), LATENTS]).to_event(1))
            loc = self.decoder(z)
            pyro.sample("x", self.make(loc, torch.zeros_like(loc)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            pyro.sample("z", self.make(*self.encoder(x).chunk(2, 1)).to_event(1))


@pytest.fixture(autouse=True)
def fresh_parameters():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(BATCH, PIXELS)


def loss_and_gradients(vae, elbo, x):
    torch.manual_seed(1)
    loss = elbo().differentiable_loss(vae.model, vae.guide, x)
    return loss.detach(), torch.autograd.grad(loss, list(vae.parameters()))


@pytest.mark.parametrize("elbo", ELBOS)
def test_loss_and_gradients_agree_with_pyros_normal_at_moderate_scales(elbo, images):
    vae, x = VAE(plain).double(), images.double()
    expected, expected_gradients = loss_and_gradients(vae, elbo, x)
    vae.make = stable
    actual, gradients = loss_and_gradients(vae, elbo, x)
    # Thousands of float64 roundings, in a loss of about 100.
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize("elbo", ELBOS)
def test_a_step_of_svi_survives_scales_that_break_pyros_normal(elbo, images):
    # A log sigma of about -60: sigma is a float32, its square is not.
    vae = VAE(stable, log_sigma=-60.0)
    before = copy.deepcopy(vae.state_dict())
    broken = VAE(plain)
    broken.load_state_dict(before)
    expected, gradients = loss_and_gradients(broken, elbo, images)
    assert not expected.isfinite() and any(not gradient.isfinite().all() for gradient in gradients)

    pyro.clear_param_store()
    loss = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), elbo()).step(images)
    assert 60 * BATCH * LATENTS < loss < 70 * BATCH * LATENTS
    for name, parameter in vae.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name


def test_sigma_of_zero_is_refused_by_pyros_normal_alone(images):
    with pytest.raises(ValueError, match="scale"):
        loss_and_gradients(VAE(plain, log_sigma=-110.0), TraceMeanField_ELBO, images)
    loss, gradients = loss_and_gradients(VAE(stable, log_sigma=-110.0), TraceMeanField_ELBO, images)
    assert 109 * BATCH * LATENTS < loss < 120 * BATCH * LATENTS
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_mean_field_kl_is_the_analytic_one_also_against_pyros_own_normal():
    posterior = stable(torch.zeros(3), torch.full((3,), -110.0))
    for prior in (stable(torch.zeros(3), torch.zeros(3)), Normal(torch.zeros(3), 1.0)):
        actual = torch.distributions.kl_divergence(posterior.to_event(1), prior.to_event(1))
        assert actual.item() == 3 * 109.5


def test_pyros_shaping_methods_keep_the_class_and_log_scale():
    posterior = stable(torch.zeros(2), torch.tensor([-110.0, 110.0]))
    for shaped in (posterior.expand([3, 2]), posterior.expand_by([3]), posterior.mask(True).expand([3, 2]).base_dist):
        assert type(shaped) is StableNormal and shaped.log_scale.tolist() == [[-110, 110]] * 3
    mask = torch.tensor([True, False])
    masked = torch.distributions.kl_divergence(posterior.mask(mask), stable(torch.zeros(2), torch.zeros(2)).mask(mask))
    assert masked.tolist() == [109.5, 0]


def test_training_through_svi_lowers_the_loss(images):
    torch.manual_seed(3)
    vae = VAE(stable)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.05}), TraceMeanField_ELBO(num_particles=4))
    losses = [svi.step(images) for _ in range(40)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("reparameterized", ["LocScaleReparam", "AutoReparam"])
def test_pyro_s_reparameterizations_keep_the_distribution(reparameterized):
    from pyro.infer.reparam import AutoReparam, LocScaleReparam

    loc, log_sigma = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0])

    def model():
        return pyro.sample("z", stable(loc, log_sigma).expand([50_000, 2]).to_event(2))

    config = {"z": LocScaleReparam(0.0)} if reparameterized == "LocScaleReparam" else AutoReparam()
    torch.manual_seed(0)
    draws = pyro.poutine.reparam(model, config)()
    # Five standard errors of the mean and of the standard deviation of 50,000 draws.
    sigma = log_sigma.exp()
    assert ((draws.mean(0) - loc).abs() < 5 * sigma / 50_000**0.5).all()
    assert ((draws.std(0) - sigma).abs() < 5 * sigma / 100_000**0.5).all()
