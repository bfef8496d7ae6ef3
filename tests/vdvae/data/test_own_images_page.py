"""docs/own_images.md: its commands make samples of a folder of images, and its table is that of the sets."""

import re
import runpy
import shlex
import sys

import numpy as np
import pytest
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
    run, name, arguments = (runpy.run_module, words[1], words[2:]) if words[0] == "-m" else (runpy.run_path, words[0], words[1:])
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        run(name, run_name="__main__")
    except SystemExit as end:
        assert not end.code, line


def test_the_commands_lead_from_a_folder_to_samples(page, project, tmp_path, monkeypatch):
    (tmp_path / "sets").mkdir(), (tmp_path / "pictures/deep").mkdir(parents=True)
    (tmp_path / "sets/own64.toml").write_text(QUICK)
    (tmp_path / "train.py").symlink_to(project / "train.py")
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"pictures/deep/{i}.{'jpg' if i % 2 else 'webp'}")
    monkeypatch.setattr(hparams, "HPS_FOLDER", tmp_path / "sets")
    monkeypatch.chdir(tmp_path)
    block = re.search(r"## From a folder to samples\n\n```\n(.*?)```", page, re.DOTALL)[1]
    lines = [line for line in block.splitlines() if line.startswith("python ")]
    assert len(lines) == 3
    for line in lines:
        run_line(line, monkeypatch)
    assert Image.open("saved_models/mine/samples-3.png").width == 64 * 2  # two validation images
    assert Image.open("samples.png").size == (8 * 64, 8 * 64)


def test_the_table_is_that_of_the_sets(page):
    rows = re.findall(r"^\| `(own\d+)` \| ([\d,]+) \| (\d+) \|", page, re.MULTILINE)
    assert [name for name, *_ in rows] == ["own32", "own64", "own128", "own256"]
    for name, parameters, n_batch in rows:
        chosen = load_hparams(["--hps", name])
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in VAE(chosen).parameters())
        assert (count, chosen.n_batch) == (int(parameters.replace(",", "")), int(n_batch)) and name == f"own{chosen.image_size}"
