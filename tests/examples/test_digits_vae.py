"""examples/digits_vae.py runs as a user starts it, and its two models are one below a scale of 1."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/digits_vae.py"


def test_it_prints_both_models_and_draws(tmp_path):
    command = [sys.executable, EXAMPLE, "--seeds", "2", "--epochs", "2", "--out", tmp_path / "curves.png"]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(",")[0].strip() for line in lines] == ["exp", "exp", "ExpLin", "ExpLin"]
    assert all(len(line.partition(":")[2].split(",")) == 2 for line in lines)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_models_agree_where_sigma_is_at_most_one():
    spec = spec_from_file_location("digits_vae", EXAMPLE)
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    losses = []
    for model_class in (example.PlainVAE, example.StableVAE):
        torch.manual_seed(0)
        model = model_class()
        with torch.no_grad():
            model.encoder[-1].bias[20:] -= 5
        losses.append(model.loss(torch.rand(8, 64)))
    torch.testing.assert_close(*losses)
