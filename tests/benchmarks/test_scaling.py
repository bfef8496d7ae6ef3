"""The figures of docs/scaling.md, computed again from the models and from the formulas that stand in the document."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.cost.work import count_work
from vdvae import VAE, load_hparams

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {"cifar10": 39_145_700, "imagenet64": 125_005_860, "ffhq256": 114_874_852}  # of the published models
TRAIN_IMAGES = {"cifar10": 45_000, "imagenet64": 1_276_149, "ffhq256": 63_000}
NVLINK, LINK = 450e9, 25e9  # bytes a second and direction of a GPU within its node, and of a network link


@pytest.fixture(scope="module")
def tables() -> list[list[list[str]]]:
    """The cells of the document's tables, without their headings."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[re.split(r"\s*\|\s*", line)[1:-1] for line in block.splitlines()[2:]] for block in blocks]


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def allreduce_seconds(size: float, gpus: int, links: int) -> float:
    """T of the document, over nodes of 8 GPUs with `links` to the network each."""
    nodes = gpus // 8
    return 2 * 7 / 8 * size / NVLINK + 2 * (nodes - 1) / nodes * size / (links * LINK)


def test_the_work_is_that_of_the_published_models(tables):
    assert {name: count_work(name).parameters for name in PARAMETERS} == PARAMETERS
    for (name, *cells), (expected, work) in zip(tables[0], {name: count_work(name) for name in PARAMETERS}.items(), strict=True):
        gigaflop = [work.forward, work.backward, work.forward + work.backward]
        megabytes = [f"{digits(work.parameters * width / 1e6)} MB" for width in (4, 2)]
        assert name == expected and cells == [f"{work.parameters:,}", *(digits(flop / 1e9) for flop in gigaflop), *megabytes]


def test_forward_flop_are_two_for_each_weight_and_place_of_a_convolution():
    hparams, places = load_hparams(["--hps", "cifar10"]), {}
    with FakeTensorMode():
        vae, size = VAE(hparams), hparams.image_size
        for module in vae.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda layer, _, output: places.update({layer: output[0, 0].numel()}))
        vae(torch.empty(1, 3, size, size), torch.empty(1, size, size, 3))
    for block in vae.decoder.dec_blocks:  # this layer convolves the two halves of its input apart
        places[block.enc.c1] = block.resolution**2
    work = count_work("cifar10")
    assert work.forward == sum(2 * layer.weight.numel() * number for layer, number in places.items())
    assert 1.9 < work.backward / work.forward <= 2


def test_an_epoch_has_the_training_images_of_the_splits_without_the_incomplete_batch(tables):
    splits = json.loads((ROOT / "tests" / "golden" / "splits.json").read_text())
    assert TRAIN_IMAGES["imagenet64"] == splits["imagenet_split"]["n"] - 5000
    assert TRAIN_IMAGES["ffhq256"] == splits["ffhq256_split"]["n"] - 7000
    for (name, *cells), (expected, images) in zip(tables[1], TRAIN_IMAGES.items(), strict=True):
        n_batch = load_hparams(["--hps", name]).n_batch
        updates = [f"{gpus * n_batch:,}, {images // (gpus * n_batch):,}" for gpus in (8, 32, 256)]
        assert name == expected and cells == [f"{images:,}", str(n_batch), *updates]


def test_the_limits_follow_from_the_formulas(tables):
    cases = [(8, 8, "none"), (32, 1, "one a node"), (32, 8, "one a GPU"), (256, 1, "one a node"), (256, 8, "one a GPU")]
    expected = []
    for name in PARAMETERS:
        work, n_batch = count_work(name), load_hparams(["--hps", name]).n_batch
        flop = work.forward + work.backward
        for gpus, links, words in cases:
            seconds = allreduce_seconds(4 * work.parameters, gpus, links)
            rate = n_batch * work.backward / flop / seconds
            half = n_batch * (1 + work.backward / flop) / seconds
            expected.append([name, str(n_batch), str(gpus), words, digits(1e3 * seconds), digits(rate),
                             digits(rate * flop / 1e12), digits(half)])
    assert tables[2] == expected


def ring_allreduce(tensors: list[list[float]]) -> list[int]:
    """All-reduce by passing pieces round a ring, in place; the number of pieces that each member sent."""
    members, sent = len(tensors), [0] * len(tensors)
    for phase in range(2 * (members - 1)):
        pieces = [(member - phase) % members for member in range(members)]
        passed = [tensors[member][piece] for member, piece in enumerate(pieces)]
        for member, piece in enumerate(pieces):
            to = (member + 1) % members
            tensors[to][piece] = passed[member] + (tensors[to][piece] if phase < members - 1 else 0)
            sent[member] += 1
    return sent


@pytest.mark.parametrize("members", [2, 3, 8])
def test_a_ring_sends_the_bytes_of_the_formula(members):
    tensors = [[float(member)] * members for member in range(members)]
    sent = ring_allreduce(tensors)
    assert tensors == [[sum(range(members))] * members] * members
    assert [pieces / members for pieces in sent] == pytest.approx([2 * (members - 1) / members] * members)
