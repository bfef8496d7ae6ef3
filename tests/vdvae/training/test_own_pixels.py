"""Runs on images that are not RGB in 8 bits: what the run keeps of them, and that its outputs are what came in."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from tests.vdvae.runs import assert_same, stopping, train
from vdvae import load
from vdvae.ranks.distributed import StartError, World
from vdvae.saving.run_state import _fingerprint, saved_states
from vdvae.tools import encode, sample
from vdvae.training.endings import Stopped

FLAGS = ["--dataset", "folder", "--image_size", 32, "--num_workers", 0, "--num_iters", 3, "--data_root"]
LONGER = ["--num_iters", 8, "--skip_threshold", 0.9]
PIXELS = ("channels", "bits", "pixel_mean", "pixel_std")


def noise(*shape: int, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def written(folder: Path, kind: str) -> Path:
    """Twenty images of noise: files of one kind below `folder`, or an array."""
    folder.mkdir(exist_ok=True)
    if kind == "satellite":
        np.save(folder / "satellite.npy", noise(20, 32, 32, 5))
        return folder / "satellite.npy"
    images = {"grey": noise(20, 35, 40, dtype=np.uint8), "grey16": noise(20, 35, 40), "rgba": noise(20, 35, 40, 4, dtype=np.uint8)}[kind]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


def pixels_of(run: Path) -> list:
    logged = {line["key"]: line["value"] for line in map(json.loads, (run / "log.jsonl").open()) if line.get("type") == "hparam"}
    return [logged[name] for name in PIXELS]


@pytest.mark.parametrize("kind, flags, channels, bits, shown", [
    ("grey", [], 1, 8, ((), np.uint8)), ("grey16", [], 1, 16, ((), np.uint16)), ("rgba", ["--channels", 4], 4, 8, ((4,), np.uint8)),
    ("satellite", ["--show_channels", "4,2,0"], 5, 16, ((3,), np.uint8)),
])
def test_outputs_are_what_came_in(tmp_path, kind, flags, channels, bits, shown):
    source, (depth, dtype) = written(tmp_path / "images", kind), shown
    run = train(tmp_path, *FLAGS, source, *flags)
    loaded = load(run)
    assert pixels_of(run)[:2] == [channels, bits] and pixels_of(run) == [getattr(loaded.hparams, name) for name in PIXELS]
    assert abs(pixels_of(run)[2] / 2**bits - 0.5) < 0.02 and 0.2 < pixels_of(run)[3] / 2**bits < 0.3
    assert main(sample, run, "--n", 2, "--out", tmp_path / "drawn.npz") == main(sample, run, "--n", 2, "--out", tmp_path / "drawn") == 0
    assert main(encode, run, source, "--out", tmp_path / "z.npz") == main(encode, run, tmp_path / "z.npz", "--decode", tmp_path / "out") == 0
    drawn = np.load(tmp_path / "drawn.npz")["images"]
    assert drawn.shape == (2, 32, 32, channels) and drawn.dtype == (np.uint8 if bits == 8 else np.uint16)
    for file in (tmp_path / "drawn/000001.png", sorted((tmp_path / "out").glob("*.png"))[-1], run / "samples-3.png"):
        image = imageio.imread(file)
        assert image.shape[2:] == depth and image.dtype == dtype
    if kind == "satellite":
        np.testing.assert_array_equal(imageio.imread(tmp_path / "drawn/000001.png"), drawn[1][..., [4, 2, 0]] >> 8)
        np.testing.assert_array_equal(np.load(tmp_path / "drawn/000001.npy"), drawn[1])
        assert np.load(tmp_path / "out/000019.npy").shape == (32, 32, 5) and len(list((tmp_path / "out").iterdir())) == 40
    else:
        np.testing.assert_array_equal(np.atleast_3d(imageio.imread(tmp_path / "drawn/000001.png")), drawn[1])


def main(tool, *arguments) -> int:
    return tool.main([*map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize("kind", ["grey16", "satellite"])
def test_a_run_goes_on_to_the_bit(tmp_path, monkeypatch, kind):
    source = written(tmp_path / "images", kind)
    whole = train(tmp_path / "whole", *FLAGS, source, *LONGER)
    stopped(tmp_path / "parts", monkeypatch, source)
    monkeypatch.setattr("vdvae.training.loader.measured", None)  # it is not measured again
    assert_same(train(tmp_path / "parts", *FLAGS, source, *LONGER, "--resume"), whole)


def stopped(folder: Path, monkeypatch, source: Path, *flags) -> Path:
    with monkeypatch.context() as patch:
        stopping(patch, 2)
        with pytest.raises(Stopped):
            train(folder, *FLAGS, source, *LONGER, *flags)
    return folder / "run"


def without_pixels(run: Path) -> None:
    """Make the run one from before there were settings of pixels."""
    lines = [line for line in (run / "log.jsonl").read_text().splitlines() if json.loads(line).get("key") not in PIXELS]
    (run / "log.jsonl").write_text("".join(line + "\n" for line in lines))
    [state] = saved_states(run)
    position = json.loads((state / "position.json").read_text())
    for name in PIXELS:
        del position["hparams"][name]
    position["log_sizes"]["log.jsonl"] = (run / "log.jsonl").stat().st_size
    (state / "position.json").write_text(json.dumps(position))
    manifest = {name: _fingerprint(state / name) for name in ("tensors.pt", "position.json")}
    (state / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_from_before_these_settings_goes_on_to_the_bit_in_rgb_with_its_constants(tmp_path, monkeypatch):
    source = written(tmp_path / "images", "grey16")
    old = ["--channels", 3, "--bits", 8, "--pixel_mean", 127.5, "--pixel_std", 64]
    whole = train(tmp_path / "whole", *FLAGS, source, *LONGER, *old)
    run = stopped(tmp_path / "parts", monkeypatch, source, *old)
    without_pixels(run)
    assert load(run).preprocess.spec == load(whole).preprocess.spec
    assert_same(train(tmp_path / "parts", *FLAGS, source, *LONGER, "--resume"), whole)


def test_other_channels_than_the_saved_run_s_are_refused(tmp_path):
    source = written(tmp_path / "images", "grey")
    train(tmp_path, *FLAGS, source)
    with pytest.raises(StartError, match="channels was 1, is 3: give the old value"):
        train(tmp_path, *FLAGS, source, "--channels", 3, "--resume")


def test_a_run_that_begins_from_weights_and_a_test_keep_their_standardisation(tmp_path, monkeypatch):
    old = train(tmp_path / "old", *FLAGS, written(tmp_path / "images", "grey"), "--pixel_mean", 100)
    other = written(tmp_path / "other", "grey16")
    weights = [f"--restore_ema_path={old}/latest-model-ema.th"]
    tested = train(tmp_path / "tested", *FLAGS, tmp_path / "images", *weights, "--test_eval")
    begun = train(tmp_path / "begun", *FLAGS, other, *weights, "--bits", 8)
    assert pixels_of(tested) == pixels_of(begun) == pixels_of(old) and pixels_of(old)[2] == 100


def test_images_that_differ_end_the_run_before_it_begins(tmp_path):
    source = written(tmp_path / "images", "grey")
    Image.fromarray(noise(40, 40, 3, dtype=np.uint8)).save(source / "colour.png")
    with pytest.raises(StartError, match="differ in channels: 20 have 1; 1 have 3: colour.png; --channels 3 or 1 converts all"):
        train(tmp_path, *FLAGS, source)
    assert not (tmp_path / "run").exists()


def test_ranks_that_read_other_images_do_not_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(World, "gather_objects", lambda self, item: [item, (1, 8, 127.0, 64.0)] if isinstance(item, tuple) else [item])
    with pytest.raises(StartError, match="the ranks do not read the same images"):
        train(tmp_path, *FLAGS, written(tmp_path / "images", "grey"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("show, words", [("5,1,0", "the images have channels 0 to 4"), ("0,1", "one or three numbers"), ("a", "one or three")])
def test_channels_that_cannot_be_shown_are_refused(tmp_path, show, words):
    with pytest.raises(ValueError, match=f"show_channels is .*{words}"):
        train(tmp_path, *FLAGS, tmp_path, "--channels", 5, "--show_channels", show)
