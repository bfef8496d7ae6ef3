"""The constants of each data set, in pixels of 0..255."""

import ast

import pytest

from vdvae.data.spec import DATASETS


def test_names_and_sizes():
    sizes = {name: spec.image_size for name, spec in DATASETS.items()}
    assert sizes == {
        "cifar10": 32,
        "imagenet32": 32,
        "imagenet64": 64,
        "ffhq_256": 256,
        "ffhq_1024": 1024,
        "photos32": 32,
        "photos32_ten": 32,
        "mnist": 28,
        "folder": None,
    }
    assert all(spec.name == name for name, spec in DATASETS.items())


@pytest.mark.parametrize("name", ["cifar10", "imagenet32", "imagenet64", "ffhq_256"])
def test_published_constants(name):
    shift, scale = {
        "cifar10": (-120.63838, 1 / 64.16736),
        "imagenet32": (-116.2373, 1 / 69.37404),
        "imagenet64": (-115.92961967, 1 / 69.37404),
        "ffhq_256": (-112.8666757481, 1 / 69.84780273),
    }[name]
    assert (DATASETS[name].shift, DATASETS[name].scale) == (shift, scale)


def test_ffhq_1024_is_converted_from_unit_pixels():
    spec = DATASETS["ffhq_1024"]
    for pixel in (0, 1, 112, 255):
        assert (pixel + spec.shift) * spec.scale == pytest.approx((pixel / 255 - 0.4387) / 0.2743, rel=1e-12)


def test_only_ffhq_256_is_five_bit():
    assert [name for name, spec in DATASETS.items() if spec.five_bit] == ["ffhq_256"]


def test_imports_only_the_standard_library(project):
    tree = ast.parse((project / "vdvae" / "data" / "spec.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [node.module for node in imports] == ["dataclasses"]
