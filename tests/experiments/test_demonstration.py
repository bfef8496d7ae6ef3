"""The demonstration's table: shares with their intervals and all counts; which runs are made, and how."""

import pytest

from experiments import demonstration
from experiments.demonstration import main, table


def test_the_table_has_all_counts_in_the_order_of_the_seeds():
    def record(nan, final):
        return {"nan_updates": nan, "final": final}

    results = {("explin/prior_const1", "avx2", 2, 0): record(0, 3.5), ("vanilla", "avx2", 2, 1): record(0, 3.5),
               ("vanilla", "avx2", 2, 0): record(14, float("nan")), ("vanilla", "avx2", 1, 0): record(3, float("inf"))}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(results).splitlines()[2:]]
    assert rows == [["vanilla", "1", "avx2", "1/1", "21% to 100%", "3", "median nan, 1 not finite"],
                    ["vanilla", "2", "avx2", "1/2", "9% to 91%", "14, 0", "median 5.05, 1 not finite"],
                    ["explin/prior_const1", "2", "avx2", "0/1", "0% to 79%", "0", "median 5.05, 0 not finite"]]


def test_each_run_is_made_once_with_its_kernels(tmp_path, monkeypatch, capsys):
    made = []
    record = {"nan_updates": 1, "final": 3.0}
    monkeypatch.setattr(demonstration, "train", lambda *args, **env: made.append((args, env)) or record)
    flags = ["--out", str(tmp_path), "--ranks", "2", "--kernels", "avx2", "--variants", "explin/prior_const1"]
    assert main([*flags, "--seeds", "1"]) == main([*flags, "--seeds", "2"]) == 0
    assert [args[1] for args, _ in made] == ["explin_prior_const1_avx2_r2_s0", "explin_prior_const1_avx2_r2_s1"]
    (_, _, given, ranks), environment = made[1]
    assert given == ["--hps", "photos32_overfit", "--sigma_param", "explin", "--prior_const1", "--seed", 1, "--device", "cpu"] and ranks == 2
    assert environment == {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3  # the settings, then a line a run


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--ranks", "0"]) == 2
    assert capsys.readouterr().err == "error: --ranks are [0], they must be at least 1\n"
