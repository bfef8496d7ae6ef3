"""Figure 1 on forty generated images in place of MNIST: the common part of both trainings, and interruption."""

import json

import numpy as np
import pytest
import torch

from experiments import figure1
from experiments.mlp_vae.model import MlpVaes, initial_parameters
from experiments.shared import results as results_module
from vdvae.data.sets.mnist import Mnist


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """40 images to train on."""
    levels = np.random.default_rng(1).integers(0, 256, (40, 784), dtype=np.uint8)
    monkeypatch.setattr(figure1, "read_mnist", lambda root: Mnist(levels, levels, levels))
    return torch.from_numpy(levels)


@pytest.fixture()
def run(tmp_path, capsys):
    """Run the program into a folder: exit code, last line of standard error."""

    def call(*arguments: str, out: str = "out"):
        code = figure1.main(["--data_root", "data", "--batch_size", "20", "--out", str(tmp_path / out), *arguments])
        return code, capsys.readouterr().err.strip().splitlines()[-1:]

    return call


@pytest.fixture()
def results(tmp_path):
    """The records of a folder by (stage, seed)."""

    def read(out: str = "out") -> dict:
        path = tmp_path / out / "results.jsonl"
        return figure1.ResultsFile(path, json.loads(path.read_text().splitlines()[0])["settings"]).done

    return read


def test_both_trainings_continue_the_pretraining(run, results, tmp_path):
    assert run("--pretrain_epochs", "2", "--epochs", "3", "--seeds", "2")[0] == 0
    run("--pretrain_epochs", "4", "--epochs", "1", "--seeds", "2", out="longer")
    found, longer = results(), results("longer")
    assert set(found) == {(stage, seed) for stage in ("pretraining", 1e-4, 1e-5) for seed in (0, 1)}
    for seed in (0, 1):
        whole = found["pretraining", seed]["smallest"] + found[1e-4, seed]["smallest"][:2]
        assert whole == pytest.approx(longer["pretraining", seed]["smallest"], rel=1e-5)  # moments and all
        before, fast, slow = (found[stage, seed]["loss"][-1] for stage in ("pretraining", 1e-4, 1e-5))
        assert fast < slow < before
    assert found[1e-4, 0]["smallest"] != found[1e-4, 1]["smallest"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figure1.png", "results.jsonl"]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interrupted_study_continues_to_the_same_curves(run, results, monkeypatch, stop):
    length = ["--pretrain_epochs", "2", "--epochs", "2"]
    run(*length, out="whole")
    monkeypatch.setattr(results_module, "SAVE_SECONDS", 0)
    epoch = figure1.Figure1.train_epoch

    def interrupted(self):
        if self.trainings[0].epoch == stop:
            raise KeyboardInterrupt
        epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(figure1.Figure1, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(*length)
    assert run(*length)[0] == 0 and results() == results("whole")
    monkeypatch.setattr(figure1, "Training", None)  # nothing is left to train
    assert run(*length)[0] == 0


def test_the_smallest_scale_is_the_smallest_of_all_pixels_and_images(few_images):
    with torch.no_grad():
        vaes = MlpVaes([figure1.CELL], initial_parameters([0]))
        vaes.parameters[-2][0, 0, 784 + 300] = -9.0  # the bias of one pixel's raw scale
        images = few_images / 256
        found = figure1.smallest_scales(vaes, images)
        assert 5e-5 < found.item() < 2e-4  # exp(-9) is 1.2e-4; no other scale is below 0.1
        vaes.parameters[-2][0, 0, 784 + 300] = torch.nan
        assert figure1.smallest_scales(vaes, images).isnan().all()


def test_a_nan_of_the_pretraining_is_in_the_records_of_all_stages(run, results, monkeypatch):
    monkeypatch.setattr(figure1, "PRETRAINING_RATE", 1e12)
    assert run("--pretrain_epochs", "2", "--epochs", "1")[0] == 0
    found = results()
    assert len({record["nan_epoch"] for record in found.values()}) == 1 and found["pretraining", 0]["nan_epoch"] in (1, 2)
    assert found["pretraining", 0]["smallest"][-1] == "nan"


def test_the_figure_continues_the_epochs_of_the_pretraining():
    record = {"smallest": [0.1, 0.01]}
    figure = figure1.draw({("pretraining", 0): record, (1e-4, 0): record, (1e-5, 0): {"smallest": [0.1, "nan"]}}, 2)
    axes, = figure.axes
    drawn = [line.get_xdata() for line in axes.lines[:3]]
    assert [list(x) for x in drawn] == [[1, 2], [3, 4], [3, 4]] and axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()][:3] == [
        "pre-training at 0.0001", "learning rate 0.0001", "learning rate 1e-05"]


@pytest.mark.parametrize("option", ["--pretrain_epochs", "--epochs", "--seeds"])
def test_bad_options_are_one_line_and_nothing_is_made(run, tmp_path, option):
    code, (error,) = run(option, "0")
    assert code == 2 and f"{option} is 0" in error and not list(tmp_path.iterdir())
