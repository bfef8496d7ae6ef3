"""The mixture of discretized logistics: a distribution over the grey levels, with the published edge cases."""

import numpy as np
import pytest
import torch

from vdvae.data.spec import DatasetSpec
from vdvae.model.likelihood.logistic_mixture import LogisticMixture, MixtureParams


def mixture(logits, means, log_scales, coeffs, five_bit=False, exact=False) -> LogisticMixture:
    """A layer whose output is the given parameters at every pixel: shapes [M] and [3, M]."""
    layer = LogisticMixture(1, DatasetSpec("any", 8, 0.0, 1.0, five_bit), len(logits), exact)
    values = torch.cat([torch.tensor(logits), torch.tensor([means, log_scales, coeffs]).permute(1, 0, 2).flatten()])
    layer.out_conv.weight.data.zero_()
    layer.out_conv.bias.data.copy_(values)
    return layer


LOGITS, MEANS = [0.3, -0.7], [[-0.4, 0.9], [0.1, -0.95], [0.5, 0.0]]
LOG_SCALES, COEFFS = [[-2.0, -3.0], [-1.0, -4.0], [-2.5, -0.5]], [[0.8, -1.2], [0.3, 2.0], [-0.6, 0.1]]


def test_masses_of_all_grey_levels_sum_to_one():
    """Summed over blue, red and green given, the masses make up the mass of red and green."""
    layer = mixture(LOGITS, MEANS, LOG_SCALES, COEFFS)
    red, green = 0.2, -0.4
    target = torch.zeros(256, 1, 1, 3)
    target[..., 0], target[..., 1] = red, green
    target[..., 2] = (torch.arange(256.0) - 127.5)[:, None, None] / 127.5
    joint = (-3 * layer.nll(torch.zeros(256, 1, 1, 1), target).double()).exp().sum().item()
    assert joint == pytest.approx(two_channel_mass(layer, (red, green)), rel=1e-4)


# Per channel: broad, narrow beside the top level, narrow between two levels in the middle.
SPREADS = [([0.0, 0.0, 0.0], -1.0), ([0.9, 0.93, 0.96], -3.0), ([0.02, 0.02, 0.02], -5.0)]


@pytest.mark.parametrize("means, log_scale", SPREADS)
def test_probabilities_of_all_exact_five_bit_colours_sum_to_one(means, log_scale):
    """Of the 32^3 colours; the original's bins sum to another figure, which parity keeps."""
    levels = (torch.arange(0.0, 256.0, 8.0) - 127.5) / 127.5
    colours = torch.cartesian_prod(levels, levels, levels)[:, None, None]

    def total(exact: bool) -> float:
        layer = mixture([0.0], [[mean] for mean in means], [[log_scale]] * 3, [[0.4]] * 3, five_bit=True, exact=exact)
        return (-3 * layer.nll(torch.zeros(len(colours), 1, 1, 1), colours).double()).exp().sum().item()

    # Bins below 1e-5 take the density at their centre: 96 of them can be wrong by 1e-5 each, and exp(-3 nll) rounds to 3e-6.
    assert total(exact=True) == pytest.approx(1, abs=1e-3)
    assert abs(total(exact=False) - 1) > 0.01


@pytest.mark.parametrize("five_bit, exact, step, bias", [(False, True, 1, 0), (True, True, 8, 0), (False, False, 1, -0.5)])
def test_exact_samples_are_rounded_to_the_nearest_level(five_bit, exact, step, bias):
    """The mean of 40,000 samples within five standard errors; the published rounding down makes them half a level darker."""
    means = [[100.4 / 127.5 - 1], [-1.5], [1.5]]  # the last two lie beyond the first and the last level
    layer = mixture([0.0], means, [[-4.0], [-7.0], [-7.0]], [[0.0]] * 3, five_bit=five_bit, exact=exact)
    torch.manual_seed(0)
    grey, black, white = layer.sample(torch.zeros(1, 1, 200, 200)).double().flatten(0, 2).unbind(1)
    std = 127.5 * np.exp(-4.0) * np.pi / 3**0.5
    assert grey.mean().item() - 100.4 == pytest.approx(bias, abs=5 * (std**2 + step**2 / 12) ** 0.5 / 200)
    assert (grey % step == 0).all() and (black == 0).all() and (white == 256 - step).all()


def test_the_nll_of_256_levels_is_the_published_one():
    target = (torch.arange(255.0).reshape(1, 5, 17, 3) - 127.5) / 127.5
    nlls = [mixture(LOGITS, MEANS, LOG_SCALES, COEFFS, exact=exact).nll(torch.zeros(1, 1, 5, 17), target) for exact in (False, True)]
    assert torch.equal(*nlls)


def two_channel_mass(layer: LogisticMixture, others) -> float:
    """Mass of red and green at `others`, in float64, from the definition: differences of logistic CDFs."""
    logits, means = torch.tensor(LOGITS).double(), torch.tensor(MEANS).double()
    scales, coeffs = torch.tensor(LOG_SCALES).double().exp(), torch.tensor(COEFFS).double().tanh()
    red, green = others
    centres = [means[0], means[1] + coeffs[0] * red]
    mass = torch.softmax(logits, 0)
    for value, centre, scale in zip((red, green), centres, scales):
        mass = mass * (torch.sigmoid((value - centre + layer.half_bin) / scale) - torch.sigmoid((value - centre - layer.half_bin) / scale))
    return mass.sum().item()


def test_edges_take_the_open_tail_and_tiny_masses_the_density():
    far = mixture([0.0], [[0.0], [0.0], [0.0]], [[-6.0]] * 3, [[0.0]] * 3)
    state = torch.zeros(1, 1, 1, 1)
    scale = np.exp(-6.0)

    def log_mass(red):
        target = torch.tensor([[[[red, 0.0, 0.0]]]])
        centre = np.log(np.tanh(1 / 255 / scale / 2))  # mass of the bin around a logistic's mean
        return -3 * far.nll(state, target).item() - 2 * centre

    edge = (1 - 1 / 255) / scale
    for black_or_white in (-1.0, 1.0):
        assert log_mass(black_or_white) == pytest.approx(-edge, rel=1e-4)
    x = 0.5 / scale  # the bin's mass is below 1e-5: log density minus log 127.5
    assert log_mass(0.5) == pytest.approx(-x + 6.0 - np.log(127.5), rel=1e-4)


def test_gradients_stay_finite_where_a_branch_is_not_taken():
    for means in (-50.0, 0.0, 50.0):
        layer = mixture([0.0], [[means]] * 3, [[-9.0]] * 3, [[0.0]] * 3)
        target = torch.tensor([[[[-1.0, 0.0, 1.0]]]])
        nll = layer.nll(torch.zeros(1, 1, 1, 1), target)
        nll.sum().backward()
        assert nll.isfinite().all() and layer.out_conv.bias.grad.isfinite().all()


def test_log_scales_are_floored_at_minus_seven():
    params = mixture([0.0], [[0.0]] * 3, [[-9.0], [-7.0], [1.0]], [[0.5]] * 3)(torch.zeros(1, 1, 1, 1))
    assert isinstance(params, MixtureParams)
    assert params.log_scales.flatten().tolist() == [-7.0, -7.0, 1.0]
    torch.testing.assert_close(params.coeffs, torch.full((1, 1, 1, 3, 1), 0.5).tanh())


def test_samples_follow_the_distribution():
    """Mean and spread of 40,000 samples of a narrow mixture: within five standard errors of the definition's."""
    layer = mixture([0.0, np.log(3.0)], [[-0.5, 0.5], [0.0, 0.0], [0.0, 0.0]], [[-4.0, -4.0]] * 3, [[20.0, 20.0], [0.0, 0.0], [0.0, 0.0]])
    torch.manual_seed(0)
    images = layer.sample(torch.zeros(1, 1, 200, 200))
    assert images.shape == (1, 200, 200, 3) and images.dtype == torch.uint8
    red, green = (images[..., channel].double() / 127.5 - 1 for channel in (0, 1))
    high = (red > 0).double().mean().item()
    assert high == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 40_000) ** 0.5)
    noise_std = np.exp(-4.0) * np.pi / 3**0.5
    residual = green - red  # green's mean is 1 * red, up to the rounding of both to grey levels
    assert residual.std().item() == pytest.approx(noise_std, rel=0.05)
    assert (red - red.sign() * 0.5).std().item() == pytest.approx(noise_std, rel=0.05)
