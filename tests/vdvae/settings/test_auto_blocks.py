"""Blocks for any image size: the published pattern, and models that the checks let through."""

from collections import Counter

import pytest
import torch

from vdvae.model.vae import VAE
from vdvae.settings.architecture_checks import check_architecture
from vdvae.settings.auto_blocks import auto_decoder_blocks, auto_encoder_blocks, auto_resolutions
from vdvae.settings.block_strings import Widths, parse_decoder_blocks, parse_encoder_blocks
from vdvae.settings.hparams import Hparams, HparamsError, load_hparams

AUTO = ["--enc_blocks", "auto", "--dec_blocks", "auto"]


def flags(size: int, *more) -> list[str]:
    return ["--dataset", "folder", "--image_size", str(size), *map(str, more)]


def test_cifar10s_decoder_is_the_published_one():
    assert auto_decoder_blocks(32, 43) == load_hparams(["--hps", "cifar10"]).dec_blocks


@pytest.mark.parametrize("name", ["cifar10", "imagenet32", "imagenet64", "ffhq256", "ffhq1024"])
def test_the_published_sets_are_spread_alike(name):
    """At each resolution within a tenth of all blocks of the decoder, a fifth of the encoder."""
    hparams = load_hparams(["--hps", name])
    blocks = len(parse_decoder_blocks(hparams.dec_blocks))
    for published, ours, allowed in (
            (parse_decoder_blocks(hparams.dec_blocks), parse_decoder_blocks(auto_decoder_blocks(hparams.image_size, blocks)), 0.1),
            (parse_encoder_blocks(hparams.enc_blocks), parse_encoder_blocks(auto_encoder_blocks(hparams.image_size, blocks)), 0.2)):
        counts = [Counter(block.resolution for block in each) for each in (published, ours)]
        assert counts[0].keys() == counts[1].keys()
        assert all(abs(counts[0][res] - counts[1][res]) <= allowed * blocks for res in counts[0])


@pytest.mark.parametrize("size, resolutions", [(28, [28, 14, 7, 1]), (100, [100, 50, 25, 5, 1]), (48, [48, 24, 12, 6, 1]),
                                               (9, [9, 3, 1]), (5, [5, 1]), (1, [1])])
def test_resolutions(size, resolutions):
    assert auto_resolutions(size) == resolutions


def test_blocks_of_every_size_that_can_be_fit_together():
    smooth = 0
    for size in range(1, 257):
        try:
            fewest = len(auto_resolutions(size))
        except ValueError:
            continue
        smooth += 1
        for blocks in (fewest, 23):
            encoder, decoder = auto_encoder_blocks(size, blocks), auto_decoder_blocks(size, blocks)
            check_architecture(encoder, decoder, Widths(8), size, 0.25)
            assert len(parse_decoder_blocks(decoder)) == blocks
    assert smooth == 77  # numbers up to 256 whose prime factors are 2, 3, 5 and 7


@pytest.mark.parametrize("size", [15, 28])
def test_a_model_of_another_size_learns_from_all_its_blocks(size):
    hparams = load_hparams(flags(size, *AUTO, "--blocks", 8, "--width", 4, "--zdim", 2, "--num_mixtures", 1))
    vae = VAE(hparams)
    for parameter in vae.parameters():  # some begin at zero
        torch.nn.init.normal_(parameter, std=0.3)
    vae(torch.randn(2, 3, size, size), torch.rand(2, size, size, 3)).negative_elbo.backward()
    assert all(parameter.grad.any() for parameter in vae.parameters())


def test_the_strings_are_what_is_saved():
    hparams = load_hparams(flags(28, *AUTO, "--blocks", 14))
    assert (hparams.enc_blocks, hparams.blocks) == ("28x3,28d2,14x2,14d2,7x1,7d7,1x1", None)
    assert Hparams(**vars(hparams)) == hparams


@pytest.mark.parametrize("given, words", [
    (flags(22, *AUTO, "--blocks", 20), ["22", "prime factor above 7", "21 and 24"]),
    (flags(32, *AUTO, "--blocks", 4), ["blocks is 4", "at least 5", "1, 4, 8, 16, 32"]),
    (flags(32, *AUTO), ["--blocks"]),
    (["--hps", "cifar10", "--blocks", "9"], ["--enc_blocks auto", "all or none"]),
    (["--hps", "cifar10", "--image_size", "48"], ["image_size is 48", "--blocks N"]),
])
def test_what_cannot_be_is_named(given, words):
    with pytest.raises(HparamsError) as caught:
        load_hparams(given)
    assert all(word in str(caught.value) for word in words)
