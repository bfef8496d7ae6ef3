import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.cost import scaling
from benchmarks.cost.scaling import CLOSING, DOCUMENT, OPENING, main, tables, with_tables
from benchmarks.cost.scaling_model import (
    TRAIN_IMAGES, Work, allreduce_seconds, compute_seconds, count_work, ring_bytes, updates_per_epoch,
)  # fmt: skip
from vdvae import VAE, load_hparams

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_PARAMETERS = {"cifar10": 39_145_700, "imagenet64": 125_005_860, "ffhq256": 114_874_852}


@pytest.fixture(scope="module")
def printed():
    return tables()


@pytest.fixture(scope="module")
def works():
    return {name: count_work(name) for name in TRAIN_IMAGES}


def test_document_has_the_tables_that_the_program_prints(printed):
    document = DOCUMENT.read_text()
    assert with_tables(document, printed) == document, "run python -m benchmarks.cost.scaling --write"
    assert document.count(OPENING.split("{")[0]) == len(printed)


def test_work_is_that_of_the_published_sets(works):
    assert {name: work.parameters for name, work in works.items()} == PUBLISHED_PARAMETERS
    assert [works[name].n_batch for name in TRAIN_IMAGES] == [16, 4, 1]


@pytest.mark.parametrize("name", TRAIN_IMAGES)
def test_forward_flop_are_two_for_each_weight_and_place_of_a_convolution(works, name):
    hparams, places = load_hparams(["--hps", name]), {}
    with FakeTensorMode():
        vae, size = VAE(hparams), hparams.image_size
        for module in vae.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda layer, _, output: places.update({layer: output[0, 0].numel()}))
        vae(torch.empty(1, 3, size, size), torch.empty(1, size, size, 3))
    for block in vae.decoder.dec_blocks:  # the two halves of its input are convolved apart
        places[block.enc.c1] = block.resolution**2
    assert works[name].forward == sum(2 * layer.weight.numel() * number for layer, number in places.items())
    assert 1.9 < works[name].backward / works[name].forward <= 2


def test_training_images_are_those_of_the_splits():
    splits = json.loads((ROOT / "tests" / "golden" / "splits.json").read_text())
    assert TRAIN_IMAGES["imagenet64"] == splits["imagenet_split"]["n"] - 5000
    assert TRAIN_IMAGES["ffhq256"] == splits["ffhq256_split"]["n"] - 7000


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
def test_a_ring_that_is_walked_sends_the_bytes_of_the_formula(members):
    tensors = [[float(member)] * members for member in range(members)]
    sent = ring_allreduce(tensors)
    assert tensors == [[sum(range(members))] * members] * members
    assert [pieces / members for pieces in sent] == pytest.approx([ring_bytes(1.0, members)] * members)


def test_times_of_an_allreduce_worked_out_by_hand():
    assert allreduce_seconds(450e9, 8, 8) == pytest.approx(2 * 7 / 8)  # NVLink alone
    # Four nodes: each sends 2 * 3/4 of 450 GB through its links of 25 GB/s, after and before what NVLink takes.
    assert allreduce_seconds(450e9, 32, 1) == pytest.approx(2 * 7 / 8 + 1.5 * 18)
    assert allreduce_seconds(450e9, 32, 8) == pytest.approx(2 * 7 / 8 + 1.5 * 18 / 8)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("efficiency", [1.0, 0.9, 0.5])
def test_compute_time_gives_the_efficiency_that_was_asked_for(efficiency, parts):
    allreduce, share = 0.012, 2 / 3
    compute = compute_seconds(allreduce, share, efficiency, parts)
    exposed = max(0.0, allreduce - share * compute / parts)
    assert compute / (compute + exposed) == pytest.approx(efficiency)
    less = 0.99 * compute
    assert less / (less + max(0.0, allreduce - share * less / parts)) < efficiency


def test_an_epoch_leaves_out_the_incomplete_batch():
    work = Work("cifar10", 1, 1, 2, n_batch=16)
    assert (updates_per_epoch(work, 8), updates_per_epoch(work, 256)) == (351, 10)


def test_numbers_have_three_digits():
    numbers = [0.30444, 9.996, 10, 99.96, 999.6, 17523, math.pi]
    assert [scaling._number(number) for number in numbers] == ["0.304", "10.0", "10.0", "100", "1,000", "17,500", "3.14"]


def document_of(names, text="old"):
    return "# Title\n" + "\n".join(OPENING.format(name=name) + text + CLOSING + "\nprose" for name in names)


def test_only_what_lies_between_the_markers_is_replaced():
    assert with_tables(document_of("ab"), {"a": "new", "b": "new"}) == document_of("ab", "new")


@pytest.mark.parametrize("document", ["# Title\n", OPENING.format(name="a") + "no end", CLOSING])
def test_a_document_without_both_markers_is_refused(document):
    with pytest.raises(ValueError, match="scaling.md needs the lines '<!-- table: a -->' and '<!-- end -->'"):
        with_tables(document, {"a": "new"})


def test_command_line_writes_or_prints(monkeypatch, tmp_path, capsys, printed):
    path = tmp_path / "scaling.md"
    path.write_text(document_of(printed))
    monkeypatch.setattr(scaling, "DOCUMENT", path)
    monkeypatch.setattr(scaling, "tables", lambda: printed)
    main([])
    assert capsys.readouterr().out == "\n\n".join(printed.values()) + "\n" and path.read_text() == document_of(printed)
    main(["--write"])
    assert all(table in path.read_text() for table in printed.values()) and "old" not in path.read_text()
