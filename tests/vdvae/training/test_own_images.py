"""Runs on a folder of images that is not perfect, and that changes before the run is resumed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.vdvae.runs import assert_same, stopping, train
from vdvae.data.own.folder import load_folder
from vdvae.ranks.distributed import StartError
from vdvae.saving.run_state import _fingerprint, saved_states
from vdvae.training.endings import Stopped

FLAGS = ["--dataset", "folder", "--image_size", 32, "--channels", 3, "--num_workers", 0, "--skip_threshold", 1.2, "--data_root"]


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        add(folder, number)
    return folder


def add(folder: Path, number: int) -> None:
    """Write an image of noise, every third one in grey."""
    pixels = np.random.default_rng(number).integers(0, 256, (35, 40 + number, 3), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if number % 3 == 0 else pixels).save(folder / f"{number:02}.png")


def cut(path: Path) -> None:
    """Leave the header, and no pixels."""
    path.write_bytes(path.read_bytes()[:60])


def images_of(run: Path) -> dict[str, dict[str, str]]:
    return json.loads((saved_states(run)[0] / "position.json").read_text())["images"]


def messages(run: Path) -> str:
    return "\n".join(json.loads(line).get("message", "") for line in (run / "log.jsonl").open())


def stopped(folder: Path, monkeypatch, *flags) -> Path:
    with monkeypatch.context() as patch:
        stopping(patch, 3)
        with pytest.raises(Stopped):
            train(folder, *flags)
    return folder / "run"


def test_a_run_on_a_folder_goes_on_to_the_bit(tmp_path, pictures, monkeypatch):
    whole = train(tmp_path / "whole", *FLAGS, pictures)
    stopped(tmp_path / "parts", monkeypatch, *FLAGS, pictures)
    assert_same(train(tmp_path / "parts", *FLAGS, pictures, "--resume"), whole)


def test_a_run_goes_on_with_more_images_and_no_held_out_one_is_trained_on(tmp_path, pictures, monkeypatch):
    run = stopped(tmp_path, monkeypatch, *FLAGS, pictures)
    before = images_of(run)
    held_out = {*before["valid"].items(), *before["test"].items()}
    for name in before["valid"] | before["test"]:
        (pictures / name).rename(pictures / f"renamed-{name}")
    (pictures / next(iter(before["train"]))).unlink()
    for number in range(20, 25):
        add(pictures, number)
    train(tmp_path, *FLAGS, pictures, "--resume")
    after = images_of(run)
    assert not {digest for _, digest in held_out} & set(after["train"].values()) and len(after["train"]) > len(before["train"])
    said = messages(run)
    assert "5 new: 20.png, 21.png" in said and f"{len(held_out)} renamed" in said and "1 gone: " in said


def test_a_run_that_did_not_save_its_parts_does_not_go_on(tmp_path, pictures, monkeypatch):
    run = stopped(tmp_path, monkeypatch, *FLAGS, pictures)
    [state] = saved_states(run)
    position = json.loads((state / "position.json").read_text())
    del position["images"]
    (state / "position.json").write_text(json.dumps(position))
    manifest = {name: _fingerprint(state / name) for name in ("tensors.pt", "position.json")}
    (state / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StartError, match="held-out images are not known any more"):
        train(tmp_path, *FLAGS, pictures, "--resume")


def test_a_run_does_not_write_its_sheets_among_its_images(pictures):
    with pytest.raises(StartError, match="save_dir .*/pictures/runs lies in data_root .*/pictures, .*another --save_dir"):
        train(pictures / "runs", *FLAGS, pictures)
    assert not (pictures / "runs").exists()


def test_files_that_break_do_not_end_a_run(tmp_path, pictures, capfd):
    """Loader processes read the training images, the trainer's own process the held-out ones."""
    parts = load_folder(pictures, 32, channels=3)
    bad = [next(iter(parts.train.files)), list(parts.test.files)[-1]]
    for name in bad:
        cut(pictures / name)
    (pictures / "text.jpg").write_text("hello")
    run = train(tmp_path, *FLAGS, pictures, "--num_workers", 1, "--test_at_end")
    said, log = capfd.readouterr(), messages(run)
    assert all(f"cannot decode image {pictures / name}" in said.err for name in bad)
    assert "left out, as they cannot be used: 1 of 21 images" in log and "text.jpg (not an image)" in log
    assert f"took the place of 2 that cannot be read: cannot decode image {pictures / bad[0]}" in log
    assert f'"n_images": {len(parts.test)}' in (run / "log.jsonl").read_text()
