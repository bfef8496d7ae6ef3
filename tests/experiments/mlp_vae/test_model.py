"""Stacked MLP VAEs against one VAE written with torch.nn, torch.distributions and torch.optim; members keep apart."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from experiments.mlp_vae.data import LEVELS, Batches, Data, dequantised, evaluation_batches
from experiments.mlp_vae.evaluation import (
    bits_per_dim, importance_weighted_bits, negative_elbo_bits, smallest_scales,
)
from experiments.mlp_vae.model import ALPHA, CELLS, Cell, MlpVaes, initial_parameters
from experiments.mlp_vae.training import Training

GAMMAS = {
    "NaiveExp": torch.exp,
    "Exp": torch.exp,
    "UpBounded1": lambda raw: torch.where(raw > 0, 1 - 0.5 * torch.exp(-raw.abs()), 0.5 * torch.exp(-raw.abs())),
    "DownBounded": lambda raw: ALPHA + torch.exp(raw),
    "Bounded": lambda raw: ALPHA + (1 - ALPHA) * torch.sigmoid(raw),
    "Global": torch.exp,
}
# Sums over 784 pixels and up to 784 products in another order: some 30 float32 roundings of 6e-8.
CLOSE = {"rtol": 2e-5, "atol": 1e-6}
# Weights after 3 steps of Adam in float64: gradients of up to 700 are rounded by 3e-13 at most, which a step magnifies
# by lr / 1e-8 = 1e5 at most, where a gradient is 0 up to rounding. In float32 it moves such a weight by +-lr.
ADAM_CLOSE = {"rtol": 0, "atol": 1e-7}


class PlainVae(nn.Module):
    """One VAE as a reader of the paper would write it, with the weights of member 0 of a stack."""

    def __init__(self, cell: Cell, stacked: list[torch.Tensor]):
        super().__init__()
        self.cell = cell
        self.encoder = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 256))
        self.decoder = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1568))
        self.global_raw = nn.Parameter(torch.zeros(()))
        layers = [self.encoder[0], self.encoder[2], self.decoder[0], self.decoder[2]]
        for layer, weight, bias in zip(layers, stacked[0::2], stacked[1::2]):
            layer.weight.data, layer.bias.data = weight[0].T.clone(), bias[0, 0].clone()

    def distributions(self, x: torch.Tensor, eps: torch.Tensor) -> tuple[Normal, torch.Tensor, Normal]:
        mu, raw = self.encoder(x).chunk(2, -1)
        posterior = Normal(mu, GAMMAS["UpBounded1"](raw))
        z = posterior.mean + posterior.stddev * eps
        loc, raw = self.decoder(z).chunk(2, -1)
        loc = loc.sigmoid() if self.cell.mean == "sigmoid" else loc
        raw = self.global_raw if self.cell.scale == "Global" else raw
        return posterior, z, Normal(loc, GAMMAS[self.cell.scale](raw))

    def negative_elbo(self, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        posterior, _, likelihood = self.distributions(x, eps)
        kl = torch.distributions.kl_divergence(posterior, Normal(torch.zeros_like(eps), torch.ones_like(eps)))
        return kl.sum(-1) - likelihood.log_prob(x).sum(-1)


@pytest.fixture(scope="module")
def images():
    """Grey levels, uint8 [60, 784], a third of them 0 as in MNIST."""
    levels = torch.randint(0, 256, (60, 784), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return levels * (levels > 85)


@pytest.fixture()
def float64():
    """New tensors are float64, so that what is compared is the mathematics."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_layers_are_those_of_the_paper():
    shapes = [list(parameter.shape[1:]) for parameter in initial_parameters([0, 1])]
    assert shapes[0:8:2] == [[784, 128], [128, 256], [128, 128], [128, 1568]]
    encoder, decoder = (784 + 1) * 128 + (128 + 1) * 256, (128 + 1) * 128 + (128 + 1) * 1568
    assert sum(math.prod(shape) for shape in shapes) == encoder + decoder + 1 == 352_289


def test_start_is_that_of_torch_s_linear_layer_and_of_the_seed_alone():
    alone, company = initial_parameters([7]), initial_parameters([1, 7, 7])
    for own, same in zip(alone, company):
        assert torch.equal(own[0], same[1]) and torch.equal(own[0], same[2])
        assert not same.any() or not torch.equal(same[0], same[1])
    for parameter, inputs in zip(alone, (784, 784, 128, 128, 128, 128, 128, 128)):
        bound = nn.Linear(inputs, 1).weight.shape[1] ** -0.5
        assert 0.9 * bound < parameter.abs().max() <= bound and abs(parameter.mean()) < 0.2 * bound


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_an_epoch_equals_that_of_a_plain_implementation(cell, images, float64):
    training = Training([cell, cell], [3, 4], 1e-3, images, batch_size=20)
    plain = PlainVae(cell, initial_parameters([3]))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    expected = []
    for x, eps in Batches(images, [3], 20).epoch(1):
        loss = plain.negative_elbo(x[0], eps[0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.detach())
    torch.testing.assert_close(training.train_epoch()[0], torch.stack(expected).mean(), rtol=1e-12, atol=0)
    *found, global_raw = [parameter.detach()[0].T for parameter in training.vaes.parameters]
    layers = [plain.encoder[0], plain.encoder[2], plain.decoder[0], plain.decoder[2]]
    for layer, weight, bias in zip(layers, found[0::2], found[1::2]):
        torch.testing.assert_close(weight, layer.weight.detach(), **ADAM_CLOSE)
        torch.testing.assert_close(bias[:, 0], layer.bias.detach(), **ADAM_CLOSE)
    torch.testing.assert_close(global_raw[0, 0], plain.global_raw.detach(), **ADAM_CLOSE)


def train(cells, seeds, images, poison=None):
    training = Training(cells, seeds, 1e-3, images, batch_size=20)
    if poison is not None:
        with torch.no_grad():
            training.vaes.parameters[0][poison] = math.nan
    losses = [training.train_epoch() for _ in range(2)]
    return training, torch.stack(losses, 1)


def test_a_member_trains_in_company_as_alone(images):
    cells = [Cell("NaiveExp", "sigmoid"), Cell("Exp", "identity"), Cell("Global", "identity")]
    _, together = train(cells, [0, 1, 1], images)
    for member, (cell, seed) in enumerate(zip(cells, [0, 1, 1])):
        _, alone = train([cell], [seed], images)
        torch.testing.assert_close(together[member], alone[0], **CLOSE)


@pytest.mark.parametrize("poison", range(4))
def test_a_member_with_nan_leaves_the_others_exactly_as_they_are(poison, images):
    cells = [Cell("Exp", "identity"), Cell("Exp", "identity"), Cell("Bounded", "sigmoid"), Cell("Global", "identity")]
    healthy, losses = train(cells, [0, 1, 0, 1], images)
    broken, with_nan = train(cells, [0, 1, 0, 1], images, poison)
    others = [member for member in range(4) if member != poison]
    assert torch.equal(losses[others], with_nan[others]) and with_nan[poison].isnan().all()
    for parameter, other in zip(healthy.vaes.parameters, broken.vaes.parameters):
        assert torch.equal(parameter[others], other[others]) and parameter.isfinite().all()
    assert broken.first_bad.tolist() == [int(member == poison) for member in range(4)]
    assert not healthy.first_bad.any()


def test_state_continues_to_the_bit(images):
    whole, _ = train([CELLS[1], CELLS[8]], [0, 1], images)
    first = Training([CELLS[1], CELLS[8]], [0, 1], 1e-3, images, batch_size=20)
    first.train_epoch()
    second = Training([CELLS[1], CELLS[8]], [0, 1], 1e-3, images, batch_size=20)
    second.restore(first.state())
    second.train_epoch()
    assert all(torch.equal(one, other) for one, other in zip(whole.vaes.parameters, second.vaes.parameters))


def test_batches_are_the_seed_s_own_and_cover_every_image(images):
    company = list(Batches(images, [4, 9, 4], 16).epoch(3))
    alone = list(Batches(images, [9], 16).epoch(3))
    assert [x.shape[1] for x, _ in company] == [16, 16, 16, 12]
    for (x, eps), (own_x, own_eps) in zip(company, alone):
        assert torch.equal(x[1], own_x[0]) and torch.equal(eps[1], own_eps[0])
        assert torch.equal(x[0], x[2]) and not torch.equal(x[0], x[1]) and not torch.equal(eps[0], eps[1])
    seen = torch.cat([x for x, _ in company], 1)[0]
    assert torch.equal(seen.sort(0).values, (images / LEVELS).sort(0).values)
    assert not torch.equal(alone[0][0], next(Batches(images, [9], 16).epoch(4))[0])


def test_noise_fills_the_grey_level_and_only_evaluation_has_it(images):
    noisy = dequantised(images, torch.Generator().manual_seed(0))
    assert torch.equal((noisy * LEVELS).floor(), images.float())
    inside = noisy * LEVELS - images
    assert abs(inside.mean() - 0.5) < 0.01 and abs(inside.std() - 1 / math.sqrt(12)) < 0.01
    data = Data.of(*[images.numpy()] * 3, "cpu")
    assert torch.equal(data.train, images) and torch.equal((data.valid * LEVELS).floor(), images.float())
    assert not torch.equal(data.valid, data.test)
    again = Data.of(*[images.numpy()] * 3, "cpu")
    assert torch.equal(data.valid, again.valid) and torch.equal(data.test, again.test)


def test_bits_are_those_of_densities_on_the_scale_of_grey_levels():
    x, loc, sigma = torch.rand(784).double(), torch.rand(784).double(), torch.rand(784).double() + 0.1
    on_levels = -Normal(loc * 256, sigma * 256).log_prob(x * 256).sum() / math.log(2) / 784
    torch.testing.assert_close(bits_per_dim(-Normal(loc, sigma).log_prob(x).sum()), on_levels)


def test_nll_of_noise_within_one_level_is_that_of_the_formula():
    # With the mean in the middle of the bin and sigma its standard deviation alpha: log2(sqrt(2 pi e / 12)) bits.
    noisy = dequantised(torch.zeros(2000, 784, dtype=torch.uint8), torch.Generator().manual_seed(1))
    nats = -Normal(0.5 / LEVELS, ALPHA).log_prob(noisy).sum(1).mean()
    # Over 1.6 million pixels the mean has a standard error of 5e-4.
    assert abs(bits_per_dim(nats) - 0.5 * math.log2(2 * math.pi * math.e / 12)) < 3e-3


def test_evaluation_equals_the_direct_computation(images):
    cells = [CELLS[2], CELLS[10]]
    vaes, noisy = MlpVaes(cells, initial_parameters([0, 1])), dequantised(images, torch.Generator().manual_seed(0))
    plain = PlainVae(cells[1], [parameter[1:] for parameter in initial_parameters([0, 1])])
    (_, eps), = evaluation_batches(noisy, 2, 500, draws=1)
    expected = plain.negative_elbo(noisy, eps[0, 1]).mean() / 784 / math.log(2) + 8
    torch.testing.assert_close(negative_elbo_bits(vaes, noisy)[1], expected.double().detach(), rtol=1e-6, atol=0)
    _, _, likelihood = plain.distributions(noisy, eps[0, 1])
    torch.testing.assert_close(smallest_scales(vaes, noisy)[1], likelihood.stddev.min().detach(), **CLOSE)


def test_importance_weighted_bound_equals_the_direct_computation_and_lies_below_the_elbo(images):
    vaes, noisy = MlpVaes([CELLS[4]] * 2, initial_parameters([0, 1])), dequantised(images, torch.Generator())
    plain = PlainVae(CELLS[4], initial_parameters([0]))
    (_, eps), = evaluation_batches(noisy, 2, 500, draws=5)
    weights = []
    for draw in eps[:, 0]:
        posterior, z, likelihood = plain.distributions(noisy, draw)
        ratio = Normal(0.0, 1.0).log_prob(z) - posterior.log_prob(z)
        weights.append((likelihood.log_prob(noisy).sum(-1) + ratio.sum(-1)).double())
    expected = math.log(5) - torch.logsumexp(torch.stack(weights), 0)
    found = importance_weighted_bits(vaes, noisy, 5)
    torch.testing.assert_close(found[0], (expected.mean() / 784 / math.log(2) + 8).detach(), rtol=1e-6, atol=0)
    assert (found < negative_elbo_bits(vaes, noisy)).all()
