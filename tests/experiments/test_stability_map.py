"""The stability map: what counts as failed, which runs are made, and the largest rate without a failure."""

import json

import pytest

from experiments import stability_map
from experiments.conv_vae import runs as conv_runs
from experiments.stability_map import FLAGS, VARIANTS, draw, main, table
from experiments.study import overfit
from stable_params.parse import PARAMETERIZATIONS, parse_parameterization


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").open()][1:]


def test_every_parameterization_is_there():
    assert {parse_parameterization(flag).name for flag in FLAGS} == PARAMETERIZATIONS.keys()
    assert set(VARIANTS["vdvae"]) > set(FLAGS) and "softclamp5_0.01/residual" in VARIANTS["vdvae"]


def test_the_largest_rate_is_the_last_one_before_any_failure():
    failed = {("a", 0.1): [0, 0], ("a", 0.2): [0, 0], ("a", 0.4): [0, 1], ("b", 0.1): [1, 1], ("b", 0.2): [0, 0],
              ("c", 0.1): [0, 0], ("c", 0.2): [1, 0], ("c", 0.4): [0, 0]}  # fmt: skip
    results = {(variant, lr, seed): {"failed": bool(bad)} for (variant, lr), runs in failed.items() for seed, bad in enumerate(runs)}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(results, "abc", [0.1, 0.2, 0.4]).splitlines()[2:]]
    assert rows == [["a", "0/2", "0/2", "1/2", "0.2"], ["b", "2/2", "0/2", "-", "none"], ["c", "0/2", "1/2", "0/2", "0.1"]]
    shown = [text.get_text() for text in draw(results, "abc", [0.1, 0.2, 0.4]).axes[0].texts]
    assert shown == ["0/2", "0/2", "1/2", "2/2", "0/2", "-", "0/2", "1/2", "0/2"]


def test_conv_runs_are_made_once_for_each_variant_rate_and_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conv_runs, "BATCH", 16)
    monkeypatch.setitem(stability_map.VARIANTS, "conv", ("explin", "exp"))
    tiny = ["--model", "conv", "--steps", "2", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*tiny, "--lrs", "0.001"]) == 0
    assert main([*tiny, "--lrs", "0.001", "1e30"]) == 0
    keys = [tuple(line["key"]) for line in lines(tmp_path)]
    assert keys == [("explin", 0.001, 0), ("exp", 0.001, 0), ("explin", 1e30, 0), ("exp", 1e30, 0)]
    assert "| explin             | 0/1        | 1/1        | 0.001              |" in capsys.readouterr().out
    assert (tmp_path / "map.md").is_file() and (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_vdvae_run_fails_by_its_nans_or_its_final_loss(tmp_path):
    def run(**changes) -> dict:
        train = {"type": "train_loss", "step": 9, "elbo": 6.0, "elbo_filtered": 6.0, "grad_norm": 1.0, "distortion_nans": 0,
                 "rate_nans": 0, "skipped_updates": 0}
        totals = {f"total_{name}": 0 for name in ("skipped_updates", "nan_updates", "rate_nans", "distortion_nans", "grad_nans",
                                                  "high_grads")}
        final = {"type": "eval_loss", "step": 10, "elbo": changes.pop("final", 4.0)}
        records = [{"type": "hparam", "key": "sigma_param", "value": "exp"}, train | totals | changes, final]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return overfit.record(tmp_path)

    assert run() == {"first": 6.0, "final": 4.0, "nan_updates": 0, "skipped_updates": 0, "failed": False}
    assert run(total_skipped_updates=7, total_high_grads=7)["failed"] is False
    assert run(total_skipped_updates=1, total_nan_updates=1, total_rate_nans=1)["failed"] is True
    assert run(final=6.1)["failed"] is True and run(final=float("inf"))["failed"] is True


def test_a_vdvae_run_is_train_py_with_these_flags(tmp_path):
    record = overfit.run("explin", True, 0.01, 3, 1, tmp_path)
    assert record["nan_updates"] == 0 and 4 < record["first"] < 8
    logged = {line["key"]: line["value"] for line in map(json.loads, (tmp_path / "explin_residual_lr0.01_s3/log.jsonl").open())
              if line.get("type") == "hparam"}
    assert {name: logged[name] for name in ("sigma_param", "posterior", "lr", "seed", "num_iters", "hps")} == \
        {"sigma_param": "explin", "posterior": "residual", "lr": 0.01, "seed": 3, "num_iters": 1, "hps": "photos32_overfit"}


def test_a_vdvae_run_that_breaks_off_is_an_error_with_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("import sys; sys.stderr.write('a warning\\nerror: lr is -1'); sys.exit(2)")
    monkeypatch.setattr(overfit, "TRAIN", tmp_path / "train.py")
    with pytest.raises(RuntimeError, match="explin_lr-1_s3: train.py ended with code 2: .*lr is -1"):
        overfit.run("explin", False, -1.0, 3, 1, tmp_path)


@pytest.mark.parametrize("flags, message", [(["--seeds", "0"], "--seeds is 0"), (["--lrs", "0"], "they must be above 0")])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    assert main(["--model", "conv", "--out", str(tmp_path), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
