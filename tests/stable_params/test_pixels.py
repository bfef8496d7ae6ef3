import math

import pytest
import torch

from stable_params import Bounded, PixelHead


def test_defaults_are_the_constants_of_the_paper():
    head = PixelHead()
    assert head.scale == Bounded(1 / (256 * math.sqrt(12)), 1)


@pytest.mark.parametrize("low, high, bits", [(0, 255, 8), (-1, 1, 8), (-1.0, 1.0, 5), (0, 1, 1)])
def test_bounds_follow_from_range_and_depth(low, high, bits):
    head = PixelHead(low, high, bits)
    assert head.scale.omega == high - low
    # The standard deviation of uniform noise in one grey level, measured: within five standard errors.
    torch.manual_seed(0)
    width = (high - low) / 2**bits
    noise = torch.rand(100_000, dtype=torch.float64) * width
    assert head.scale.alpha == pytest.approx(noise.std().item(), rel=5 * math.sqrt(0.2 / 100_000))


@pytest.mark.parametrize("mean", ["identity", "sigmoid"])
def test_raw_is_split_into_means_and_scales(mean):
    raw = torch.randn(2, 6, 4, 5)
    head = PixelHead(mean=mean)
    normal, parts = head(raw), head.normal(raw[:, :3], raw[:, 3:])
    assert normal.loc.shape == normal.scale.sigma.shape == (2, 3, 4, 5)
    assert torch.equal(normal.loc, parts.loc) and torch.equal(normal.scale.sigma, parts.scale.sigma)
    assert torch.equal(parts.scale.log_sigma, head.scale(raw[:, 3:]).log_sigma)


@pytest.mark.parametrize("dim", [-1, 3])
def test_channels_may_be_last(dim):
    raw = torch.randn(2, 4, 5, 6)
    expected = PixelHead()(raw.movedim(-1, 1))
    assert torch.equal(PixelHead()(raw, dim).loc.movedim(-1, 1), expected.loc)


def test_identity_mean_is_the_output_itself():
    raw_loc = torch.tensor([-7.0, 0.5, 1e4])
    assert torch.equal(PixelHead(-1, 1).normal(raw_loc, torch.zeros(3)).loc, raw_loc)


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 1), (0, 255), (-3, -1)])
def test_sigmoid_mean_covers_the_range_and_never_leaves_it(low, high):
    raw_loc = torch.tensor([-torch.inf, -1e4, 0.0, 1e4, torch.inf])
    loc = PixelHead(low, high, mean="sigmoid").normal(raw_loc, torch.zeros(5)).loc
    assert loc.tolist() == [low, low, (low + high) / 2, high, high]


def test_log_prob_of_the_worst_pixel_is_bounded():
    # Neither a perfect mean nor a hopeless one: sigma >= alpha caps the density.
    head = PixelHead(mean="sigmoid")
    log_prob = head(torch.tensor([[1e4, -1e4]])).log_prob(torch.tensor([[1.0]]))
    torch.testing.assert_close(log_prob, torch.tensor([[math.log(256 * math.sqrt(12)) - math.log(2 * math.pi) / 2]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mean", ["identity", "sigmoid"])
def test_dtype_is_kept(dtype, mean):
    normal = PixelHead(mean=mean)(torch.randn(2, 6, dtype=dtype))
    assert normal.loc.dtype == normal.scale.sigma.dtype == normal.scale.log_sigma.dtype == dtype


@pytest.mark.parametrize(
    "arguments, error, named",
    [
        ({"low": 1, "high": 0}, ValueError, "low must be below high, got low 1 and high 0"),
        ({"high": math.inf}, ValueError, "high must be finite, got inf"),
        ({"low": "0"}, TypeError, "low must be a number, got '0'"),
        ({"bits": 0}, ValueError, "bits must be at least 1, got 0"),
        ({"bits": 8.0}, TypeError, "bits must be an int, got 8.0"),
        ({"mean": "tanh"}, ValueError, "mean must be one of identity, sigmoid, got 'tanh'"),
    ],
)
def test_impossible_arguments_are_refused_by_name(arguments, error, named):
    with pytest.raises(error, match=named):
        PixelHead(**arguments)


@pytest.mark.parametrize("shape, dim", [((2, 3, 4), 1), ((4,), 1), ((2, 4), -3)])
def test_raw_that_cannot_be_halved_is_refused(shape, dim):
    with pytest.raises(ValueError, match=f"along dimension {dim}, got shape"):
        PixelHead()(torch.zeros(shape), dim)


def test_integer_raw_is_refused():
    with pytest.raises(TypeError, match="torch.int64"):
        PixelHead()(torch.zeros(2, 6, dtype=torch.int64))
