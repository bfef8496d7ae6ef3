"""The map of a VDVAE's scales: what counts as failed, the flags of a variant, and which runs are made."""

import json
import math

import pytest

from experiments import vdvae_map
from experiments.study import one_run
from experiments.vdvae_map import VARIANTS, failures_table, flags_of, judge, losses_table, main
from vdvae import load_hparams


def record(final: float, nan: int = 0, stuck: bool = False) -> dict:
    return {"final": final, "nan_updates": nan, "skipped_updates": nan + 1, "stuck": stuck}


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_flags_of_train_py(variant):
    hparams = load_hparams(["--hps", "photos32_overfit", *flags_of(variant)])
    posterior, _, prior = variant.removesuffix("/residual").partition("/")
    assert hparams.posterior_scale.flag == posterior
    assert hparams.prior_scale.flag == (prior or posterior)
    assert hparams.posterior == ("residual" if variant.endswith("/residual") else "absolute")


def test_a_run_fails_by_a_nan_by_getting_stuck_and_by_an_end_far_above_the_others():
    results = {("a", 0.1, 0): record(3.0), ("a", 0.1, 1): record(4.0), ("b", 0.1, 0): record(5.0, nan=2),
               ("b", 0.1, 1): record(7.1), ("c", 0.1, 0): record(math.nan, nan=1), ("c", 0.1, 1): record(3.0, stuck=True),
               ("a", 0.2, 0): record(20.0)}  # fmt: skip
    judged = judge(results)
    assert [key for key, each in judged.items() if not each["failed"]] == [("a", 0.1, 0), ("a", 0.1, 1), ("b", 0.1, 1), ("a", 0.2, 0)]
    assert judge({**results, ("b", 0.1, 1): record(8.1)})["b", 0.1, 1]["failed"]  # above twice the median of 3.0, 4.0 and 8.1
    assert rows(failures_table(judged, "abc", [0.1, 0.2])) == [
        ["a", "0/2 (0% to 66%); 0, 0", "0/1 (0% to 79%); 0, 0", "0.2"], ["b", "1/2 (9% to 91%); 1, 0", "-", "none"],
        ["c", "2/2 (34% to 100%); 1, 1", "-", "none"]]  # fmt: skip
    assert rows(losses_table(judged, "bc", 0.1)) == [["b", "3, 1", "7.21, 10.24"], ["c", "2, 1", "nan, 4.33"]]


def test_each_run_is_made_once(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(vdvae_map, "train", lambda folder, desc, flags: made.append((desc, flags)) or record(3.0))
    flags = ["--model", "deep", "--variants", "explin/constant1", "explin", "--jobs", "2", "--out", str(tmp_path)]
    assert main([*flags, "--seeds", "1"]) == main([*flags, "--seeds", "2", "--lrs", "0.07", "0.1"]) == 0
    assert sorted(desc for desc, _ in made) == sorted(f"deep_{variant}_lr{lr}_s{seed}" for variant in ("explin", "explin_constant1")
                                                      for lr, seed in (("0.07", 0), ("0.07", 1), ("0.1", 0), ("0.1", 1)))
    hparams = load_hparams([str(word) for word in dict(made)["deep_explin_constant1_lr0.1_s1"]])
    assert (hparams.lr, hparams.seed, hparams.prior_const1, hparams.num_iters) == (0.1, 1, True, 200)
    assert (tmp_path / "deep.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "deep.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_breaks_off_is_an_error_with_its_last_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "train.py").write_text("import sys; sys.stderr.write('a warning\\nerror: no such set'); sys.exit(2)")
    monkeypatch.setattr(one_run, "TRAIN", tmp_path / "train.py")
    assert main(["--model", "overfit", "--variants", "explin", "--lrs", "0.1", "--seeds", "1", "--out", str(tmp_path)]) == 1
    assert "overfit_explin_lr0.1_s0: train.py ended with code 2: ['error: no such set']" in capsys.readouterr().err


def test_a_run_is_train_py_and_its_record_has_the_counts(tmp_path):
    flags = ["--hps", "photos32_overfit", "--sigma_param", "explin", "--num_iters", 1]
    found = one_run.train(tmp_path, "one", flags)
    assert found["nan_updates"] == found["skipped_updates"] == 0 and not found["stuck"] and 4 < found["final"] < 8
    logged = {line["key"]: line["value"] for line in map(json.loads, (tmp_path / "one/log.jsonl").open()) if line.get("type") == "hparam"}
    assert logged["sigma_param"] == "explin" and logged["num_iters"] == 1


@pytest.mark.parametrize("flags, message", [(["--variants", "expln"], "sigma_param: "), (["--jobs", "0"], "--jobs is 0")])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    assert main(["--model", "overfit", "--seeds", "1", "--out", str(tmp_path), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
