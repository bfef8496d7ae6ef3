"""Table 3 on forty generated images in place of MNIST: results, interruption, more seeds, NaN, bad input."""

import json
import math

import numpy as np
import pytest

from experiments import table3
from experiments.mlp_vae import table3_report
from experiments.mlp_vae.model import CELLS, SCALES, Cell
from experiments.mlp_vae.table3_report import cell_text, draw, table
from experiments.shared import results as results_module
from stable_params.pixels import MEANS
from vdvae.data.sets.mnist import Mnist, read_mnist

FEW = (Cell("Exp", "sigmoid"), Cell("Bounded", "identity"))


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """40 train, 10 valid and 10 test images, and two cells, so that a study takes a second."""
    levels = np.random.default_rng(1).integers(0, 256, (60, 784), dtype=np.uint8)
    monkeypatch.setattr(table3, "read_mnist", lambda root: Mnist(levels[:40], levels[40:50], levels[50:]))
    monkeypatch.setattr(table3, "CELLS", FEW)


@pytest.fixture()
def run(tmp_path, capsys):
    """Run the program into a folder: exit code, standard output, last line of standard error."""

    def call(*arguments: str, out: str = "out"):
        code = table3.main(["--data_root", "data", "--batch_size", "20", "--out", str(tmp_path / out), *arguments])
        output, errors = capsys.readouterr()
        return code, output, errors.strip().splitlines()[-1:]

    return call


@pytest.fixture()
def results(tmp_path):
    """The records of a folder by (scale, mean, seed)."""

    def read(out: str = "out") -> dict:
        return table3.ResultsFile(tmp_path / out / "results.jsonl", json.loads(head(tmp_path / out))["settings"]).done

    def head(folder) -> str:
        return (folder / "results.jsonl").read_text().splitlines()[0]

    return read


def test_a_study_leaves_records_a_table_and_a_plot(run, results, tmp_path):
    code, output, _ = run("--seeds", "2", "--epochs", "3")
    assert code == 0 and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "results.jsonl", "table3.md", "table3.png"]
    found = results()
    assert set(found) == {(*cell, seed) for cell in FEW for seed in (0, 1)}
    for record in found.values():
        assert len(record["valid_curve"]) == len(record["train_curve"]) == 3
        assert record["valid"] == min(record["valid_curve"])
        assert record["valid_curve"][record["selected_epoch"] - 1] == record["valid"]
        assert record["nan_step"] is None and 7 < record["test"] < 12
    assert output.strip() == (tmp_path / "out" / "table3.md").read_text().strip()
    assert "bits per dimension on the scale 0..255" in output and "3 epochs of batch 20" in output


def test_finished_cells_are_not_trained_again(run, results, monkeypatch):
    run("--seeds", "1", "--epochs", "2")
    first = results()
    monkeypatch.setattr(table3, "Training", None)
    assert run("--seeds", "1", "--epochs", "2")[0] == 0
    assert results() == first


def test_seeds_added_later_are_those_of_a_study_with_all(run, results):
    run("--seeds", "2", "--epochs", "2", out="both")
    run("--seeds", "1", "--epochs", "2")
    run("--seeds", "2", "--epochs", "2")
    both, added = results("both"), results()
    assert both.keys() == added.keys()
    for key, record in both.items():  # equal to rounding: other companies, other blocks of a matrix product
        assert added[key]["valid_curve"] == pytest.approx(record["valid_curve"], rel=1e-5)
        assert added[key]["test"] == pytest.approx(record["test"], rel=1e-5)


def interrupt_after(monkeypatch, program, epochs: int) -> None:
    epoch = program.Table3.train_epoch

    def stop(self):
        if self.training.epoch == epochs:
            raise KeyboardInterrupt
        epoch(self)

    monkeypatch.setattr(program.Table3, "train_epoch", stop)


def test_an_interrupted_study_continues_to_the_same_results(run, results, tmp_path, monkeypatch):
    run("--seeds", "1", "--epochs", "4", out="whole")
    monkeypatch.setattr(results_module, "SAVE_SECONDS", 0)
    with monkeypatch.context() as patch:
        interrupt_after(patch, table3, 2)
        with pytest.raises(KeyboardInterrupt):
            run("--seeds", "1", "--epochs", "4")
    assert (tmp_path / "out" / "state.pt").exists() and not results()
    trained = []
    monkeypatch.setattr(table3, "bits_per_dim", lambda nats: trained.append(1) or bits_per_dim(nats))
    assert run("--seeds", "1", "--epochs", "4")[0] == 0
    assert len(trained) == 2 and results() == results("whole")
    assert not (tmp_path / "out" / "state.pt").exists()


bits_per_dim = table3.bits_per_dim


def test_the_state_of_another_study_and_a_damaged_one_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "SAVE_SECONDS", 0)
    with monkeypatch.context() as patch:
        interrupt_after(patch, table3, 1)
        with pytest.raises(KeyboardInterrupt):
            run("--seeds", "1", "--epochs", "2")
    state = tmp_path / "out" / "state.pt"
    code, _, (error,) = run("--seeds", "2", "--epochs", "2")
    assert code == 2 and str(state) in error and "unfinished training" in error and state.exists()
    state.write_bytes(state.read_bytes()[:500])
    code, _, (error,) = run("--seeds", "1", "--epochs", "2")
    assert code == 2 and f"{state} is damaged" in error


def test_a_state_with_code_is_refused_and_the_code_not_run(run, tmp_path):
    import os

    import torch

    class RunsCode:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "out").mkdir()
    torch.save({"identity": "", "state": RunsCode()}, tmp_path / "out" / "state.pt")
    code, _, (error,) = run("--seeds", "1", "--epochs", "2")
    assert code == 2 and "is damaged" in error and not (tmp_path / "made").exists()


def test_runs_that_become_nan_are_counted_located_and_shown(run, results, monkeypatch):
    monkeypatch.setattr(table3, "LEARNING_RATE", 1e12)
    code, output, _ = run("--seeds", "1", "--epochs", "2")
    record = results()["Exp", "sigmoid", 0]
    assert code == 0 and record["nan_step"] in (2, 3) and record["nan_epoch"] == math.ceil(record["nan_step"] / 2)
    assert record["train_curve"][-1] == "nan"
    row = next(line for line in output.splitlines() if line.startswith("| Exp"))
    assert "100% NaN" in row.split("|")[4]
    assert "epoch of the first NaN" in output


def test_importance_samples_give_a_lower_bound_that_the_table_shows(run, results):
    code, output, _ = run("--seeds", "1", "--epochs", "1", "--importance_samples", "20")
    for record in results().values():
        assert record["importance_weighted_test"] < record["test"]
    shown = results()["Exp", "sigmoid", 0]["importance_weighted_test"]
    assert "importance-weighted bound, 20 draws" in output and f"{shown:.2f}" in output


def runs(*tests: float | None, nan: int = 0) -> list[dict]:
    """Records, of which the first `nan` became NaN; a test of None is of a run without a model before that."""
    return [{"test": test if test is not None else "nan", "nan_step": 9 if n < nan else None,
             "selected_epoch": None if test is None else 1} for n, test in enumerate(tests)]


@pytest.mark.parametrize("records, text", [
    (runs(5.3, 5.4), "5.35 ± 0.07"),
    (runs(5.3), "5.30"),
    (runs(5.3, 5.4, nan=2), "100% NaN (5.35 ± 0.07 before)"),
    (runs(6.0, 5.3, 5.4, 5.5, nan=1), "5.40 ± 0.10, 25% NaN (6.00 before)"),
    (runs(None, None, nan=2), "100% NaN"),
    ([], "-"),
])
def test_a_cell_separates_nan_runs_from_the_others(records, text):
    assert cell_text(records, "test") == text


def test_the_table_has_the_paper_s_layout_and_figures():
    lines = table({}, {"importance_samples": None}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(SCALES) and len(CELLS) == 12
    assert [column.strip() for column in lines[0].split("|")[1:-1]] == [
        "γ", "mean: identity", "paper", "mean: sigmoid", "paper"]
    assert [column.strip() for column in lines[6].split("|")[1:-1]] == [
        "Bounded", "-", "5.05 ± 0.07", "-", "4.56 ± 0.05"]


def test_the_plot_has_a_line_for_each_run_and_a_cross_where_it_became_nan():
    whole = {"valid_curve": [6.0, 5.0, 5.5], "nan_epoch": None}
    broken = {"valid_curve": [7.0, "nan", "inf"], "nan_epoch": 2}
    figure = draw({("Exp", "identity", 0): whole, ("Exp", "sigmoid", 0): broken, ("Global", "identity", 1): whole})
    identity, sigmoid = figure.axes
    assert [axes.get_title().split()[1] for axes in figure.axes] == list(MEANS)
    drawn = [[line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata())] for axes in (identity, sigmoid)]
    assert drawn[0] == [[[1, 6.0], [2, 5.0], [3, 5.5]]] * 2
    assert drawn[1][0][0] == [1, 7.0] and drawn[1][1] == [[2, 10.0]]


@pytest.mark.parametrize("arguments, words", [
    (["--seeds", "0"], ["--seeds is 0", "at least 1"]),
    (["--epochs", "-1"], ["--epochs is -1"]),
    (["--batch_size", "0"], ["--batch_size is 0"]),
    (["--importance_samples", "0"], ["--importance_samples is 0"]),
    (["--device", "abacus"], ["--device abacus"]),
])
def test_bad_options_are_one_line_and_nothing_is_made(run, tmp_path, arguments, words):
    code, output, (error,) = run(*arguments)
    assert code == 2 and not output and error.startswith("error: ") and all(word in error for word in words)
    assert not list(tmp_path.iterdir())


def test_other_settings_and_a_file_as_folder_are_refused(run, tmp_path):
    run("--seeds", "1", "--epochs", "1")
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    code, _, (error,) = run("--seeds", "1", "--epochs", "2")
    assert code == 2 and "epochs" in error and (tmp_path / "out" / "results.jsonl").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    code, _, (error,) = run(out="file")
    assert code == 2 and "must be a folder" in error and (tmp_path / "file").read_text() == "mine"


def test_program_names_the_script_for_missing_data(run, monkeypatch):
    monkeypatch.setattr(table3, "read_mnist", read_mnist)
    code, output, (error,) = run()
    assert code == 2 and not output and error.startswith("error: ") and "run_scripts/setup_mnist.sh" in error


def test_paper_s_figures_cover_every_cell():
    assert {(scale, len(figures)) for scale, figures in table3_report.PAPER.items()} == {(s, 2) for s in SCALES}
