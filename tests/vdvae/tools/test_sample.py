"""Images drawn from a run: the three kinds of output, the seed, what is refused."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.tools import sample


def main(*arguments) -> int:
    return sample.main([*map(str, arguments), "--device", "cpu"])


@pytest.fixture()
def drawn(vae) -> np.ndarray:
    """Five images at temperature 0.8 with seed 3, in batches of two."""
    with own_noise(3, World()):
        return torch.cat([vae.sample(n, 0.8) for n in (2, 2, 1)]).numpy()


def test_the_three_outputs_hold_the_same_images(run, drawn, tmp_path, capsys):
    what = [run, "--n", 5, "--temperature", 0.8, "--seed", 3, "--n_batch", 2, "--out"]
    for name in ("sheet.png", "images.npz", "folder"):
        assert main(*what, tmp_path / name) == 0
        assert f"{tmp_path / name}: 5 images at temperature 0.8, seed 3" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path / "images.npz")["images"], drawn)
    files = sorted((tmp_path / "folder").iterdir())
    assert [path.name for path in files] == [f"00000{index}.png" for index in range(5)]
    assert all(np.array_equal(imageio.imread(path), image) for path, image in zip(files, drawn))
    sheet = imageio.imread(tmp_path / "sheet.png")  # 3 columns, 2 rows, the last place black
    assert np.array_equal(sheet[:8, :24], np.concatenate(drawn[:3], axis=1))
    assert np.array_equal(sheet[8:, :16], np.concatenate(drawn[3:], axis=1)) and not sheet[8:, 16:].any()
    assert sheet.shape == (16, 24, 3) and {path.name for path in tmp_path.iterdir()} == {"run", "sheet.png", "images.npz", "folder"}


@pytest.mark.parametrize("flags, words", [
    (["--out", "{tmp}/there.png"], ["there.png is there already"]),
    (["--out", "{run}"], ["run is there already"]),
    (["--out", "{tmp}/no/x.npz"], ["there is no folder"]),
    (["--out", "{tmp}/x.jpg"], ["x.jpg must end in .png", ".npz"]),
])
def test_refusals_write_nothing(run, tmp_path, capsys, flags, words):
    (tmp_path / "there.png").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(run, *(flag.format(tmp=tmp_path, run=run) for flag in flags)) == 2
    message = capsys.readouterr().err
    assert message.startswith("sample: ") and message.count("\n") == 1 and all(word in message for word in words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_that_never_saved_is_named(run, tmp_path, capsys):
    (run / "latest-model-ema.th").unlink()
    assert main(run, "--out", tmp_path / "x.png") == 2
    assert "no file" in capsys.readouterr().err and not (tmp_path / "x.png").exists()


def test_a_disk_that_fills_leaves_no_images(run, tmp_path, monkeypatch, capsys):
    def full(path, content):
        path.touch()
        if path.name == "000002.png":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(run, "--n", 4, "--out", tmp_path / "new/images") == 2
    assert "No space left" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["run"]
