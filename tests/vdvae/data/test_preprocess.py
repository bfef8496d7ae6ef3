"""Preprocessing against the formulas in float64."""

import pytest
import torch

from vdvae.data.preprocess import Batch, Preprocess
from vdvae.data.spec import DATASETS, DatasetSpec
from vdvae.settings.hparams import load_hparams

FLOAT32_EPS = torch.finfo(torch.float32).eps


@pytest.fixture
def images() -> torch.Tensor:
    """Every pixel value once: uint8 [2, 4, 8, 4]."""
    return torch.arange(256).to(torch.uint8).reshape(2, 4, 8, 4)


@pytest.mark.parametrize("name", [name for name, spec in DATASETS.items() if spec.bits])
def test_values_layout_and_dtype(images, name):
    """Three float32 roundings, each relative to a value no larger than 255 * scale before the difference is taken."""
    spec = DATASETS[name]
    network_input, target = Preprocess(spec)(images)
    exact = (images.double() + spec.shift) * spec.scale
    levels = torch.floor(images.double() / 8) * 8 if spec.five_bit else images.double()
    assert network_input.shape == (2, 4, 4, 8) and network_input.is_contiguous()
    assert target.shape == (2, 4, 8, 4) and target.is_contiguous()
    assert network_input.dtype == target.dtype == torch.float32
    torch.testing.assert_close(
        network_input.double(), exact.permute(0, 3, 1, 2), rtol=2 * FLOAT32_EPS, atol=255 * spec.scale * FLOAT32_EPS
    )
    torch.testing.assert_close(target.double(), (levels - 127.5) / 127.5, rtol=FLOAT32_EPS, atol=0)


def test_the_range_is_exactly_minus_one_to_one(images):
    target = Preprocess(DATASETS["cifar10"])(images).target
    assert (target.min(), target.max()) == (-1, 1)


def test_five_bit_floors_the_target_alone(images):
    spec = DatasetSpec("five", 8, shift=-1.0, scale=0.5, five_bit=True)
    network_input, target = Preprocess(spec)(images)
    grey_levels = (target.double() * 127.5 + 127.5).round().unique()
    assert grey_levels.tolist() == list(range(0, 256, 8))
    assert len(network_input.unique()) == 256


@pytest.mark.parametrize("five_bit", [False, True])
def test_the_images_are_not_changed_and_share_nothing(images, five_bit):
    batch = Preprocess(DatasetSpec("any", 8, shift=0.0, scale=1.0, five_bit=five_bit))(images)
    batch.input.fill_(0), batch.target.fill_(0)
    assert torch.equal(images.flatten(), torch.arange(256).to(torch.uint8))


def test_fields_are_named(images):
    batch = Preprocess(DATASETS["photos32"])(images)
    assert isinstance(batch, Batch) and batch._fields == ("input", "target")


def test_images_that_are_not_contiguous(images):
    preprocess = Preprocess(DATASETS["photos32"])
    flipped = images.flip(2)
    strided = images.transpose(1, 2)
    for view in (flipped, strided):
        for given, expected in zip(preprocess(view), preprocess(view.clone(memory_format=torch.contiguous_format))):
            assert torch.equal(given, expected) and given.is_contiguous()


@pytest.mark.parametrize("bits", [1, 7, 8, 12, 16])
def test_levels_of_any_depth(bits):
    """0 and the top level become -1 and 1, mid grey 0; --pixel_mean and --pixel_std standardise."""
    images = torch.tensor([0, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1]).reshape(1, 2, 2, 1)
    images = images.to(torch.uint8 if bits <= 8 else torch.uint16)
    flags = ["--hps", "own32", "--channels", 1, "--bits", bits, "--pixel_mean", 0.5, "--pixel_std", 0.25]
    network_input, target = Preprocess(load_hparams(list(map(str, flags))).dataset_spec)(images)
    levels = target.double().flatten()
    half_step = 1 / (2**bits - 1)
    torch.testing.assert_close(levels, torch.tensor([-1, -half_step, half_step, 1]).double(), rtol=0, atol=6e-8)
    assert torch.equal(network_input.double().flatten(), images.double().flatten() * 4 - 2)
    with pytest.raises(TypeError, match=rf"images of {bits} bits must be torch.uint\d+, got torch.uint\d+"):
        Preprocess(DatasetSpec("any", 2, 0.0, 1.0, bits=bits))(images.to(torch.uint16 if bits <= 8 else torch.uint8))


def test_a_folder_that_nobody_has_looked_at_is_centred_on_mid_grey_in_any_depth():
    """As runs from before these settings were."""
    for flags, expected in (([], (3, 8, -127.5, 1 / 64)), (["--bits", "16"], (3, 16, -32767.5, 255 / 65535 / 64))):
        spec = load_hparams(["--hps", "own32", *flags]).dataset_spec
        assert (spec.channels, spec.bits, spec.shift, spec.scale) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int8])
def test_other_dtypes_are_refused(images, dtype):
    with pytest.raises(TypeError, match=f"torch.uint8, got {dtype}"):
        Preprocess(DATASETS["cifar10"])(images.to(dtype))


def test_a_single_image_is_refused(images):
    with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \[4, 8, 4\]"):
        Preprocess(DATASETS["cifar10"])(images[0])
