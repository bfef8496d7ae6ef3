"""docs/own_images.md: its commands make samples of a folder of images, and its table is that of the sets."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from vdvae.model.vae import VAE
from vdvae.settings import hparams
from vdvae.settings.hparams import load_hparams

QUICK = """
dataset = "folder"
image_size = 64
width = 8
zdim = 2
num_mixtures = 1
sigma_param = "explin"
n_batch = 4
num_iters = 3
num_workers = 0
enc_blocks = "64d16,4d4,1x1"
dec_blocks = "1x1,4m1,64m4"
"""


@pytest.fixture(scope="module")
def page(project) -> str:
    return (project / "docs/own_images.md").read_text()


def run_line(line: str, monkeypatch) -> None:
    """Run `python ...` in this process."""
    _, *words = shlex.split(line)
    if words[0] == "-c":
        return exec(words[1], {})
    run, name, arguments = (runpy.run_module, words[1], words[2:]) if words[0] == "-m" else (runpy.run_path, words[0], words[1:])
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        run(name, run_name="__main__")
    except SystemExit as end:
        assert not end.code, line


@pytest.fixture
def run_section(page, project, tmp_path, monkeypatch):
    """run_section(title) runs the Python commands of a section, with a small set own64, in a folder that is then the current one."""
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/own64.toml").write_text(QUICK)
    (tmp_path / "train.py").symlink_to(project / "train.py")
    monkeypatch.setattr(hparams, "HPS_FOLDER", tmp_path / "sets")
    monkeypatch.chdir(tmp_path)

    def run(title: str) -> None:
        section = re.search(rf"## {title}\n(.*?)\n## ", page, re.DOTALL)[1]
        lines = [line for line in section.splitlines() if line.startswith("python ")]
        assert len(lines) >= 3
        for line in lines:
            run_line(line, monkeypatch)

    return run


def noise(*shape: int, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def test_the_commands_lead_from_a_folder_to_samples(run_section):
    Path("pictures/deep").mkdir(parents=True)
    for i, pixels in enumerate(noise(20, 70, 80, 3, dtype=np.uint8)):
        Image.fromarray(pixels).save(f"pictures/deep/{i}.{'jpg' if i % 2 else 'webp'}")
    run_section("From a folder to samples")
    assert Image.open("saved_models/mine/samples-3.png").width == 64 * 2  # two validation images
    assert Image.open("samples.png").size == (8 * 64, 8 * 64)


def test_the_commands_for_grey_images_of_sixteen_bits_and_stacks_keep_them(run_section):
    Path("cells").mkdir()
    for i, pixels in enumerate(noise(20, 70, 80)):
        Image.fromarray(pixels).save(f"cells/{i}.png")
    tifffile.imwrite("stack.tif", noise(20, 64, 64))
    run_section("Microscopy and medical images")
    for file in ("cells.png", "decoded_cells/0.png", "saved_models/stack/samples-3.png"):
        assert Image.open(file).mode == "I;16"


def test_the_commands_for_satellite_images_keep_all_channels(run_section):
    Path("tiles").mkdir()
    for i, pixels in enumerate(noise(20, 64, 64, 5)):
        tifffile.imwrite(f"tiles/{i}.tif", pixels, photometric="minisblack")
    run_section("Satellite images and other arrays")
    assert np.load("tiles_drawn.npz")["images"].shape == (64, 64, 64, 5)
    assert np.load("decoded_tiles/000003.npy").dtype == np.uint16 and Image.open("decoded_tiles/000003.png").mode == "RGB"


def test_the_table_is_that_of_the_sets(page):
    rows = re.findall(r"^\| `(own\d+)` \| ([\d,]+) \| (\d+) \|", page, re.MULTILINE)
    assert [name for name, *_ in rows] == ["own32", "own64", "own128", "own256"]
    for name, parameters, n_batch in rows:
        chosen = load_hparams(["--hps", name])
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in VAE(chosen).parameters())
        assert (count, chosen.n_batch) == (int(parameters.replace(",", "")), int(n_batch)) and name == f"own{chosen.image_size}"
