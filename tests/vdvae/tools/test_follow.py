"""Watching a run: what is appended shows, cut logs start over, and the watching ends with the run."""

import io
import json
import math
import os

import pytest
from rich.console import Console

from vdvae.tools import inspect
from vdvae.tools.follow import Tail, Watch, curve, follow

LN2 = math.log(2)


def train_line(step: int, bits: float = 5.0, **changes) -> dict:
    counts = {f"total_{name}": 0 for name in ("skipped_updates", "nan_updates", "rate_nans", "distortion_nans", "grad_nans", "high_grads")}
    return {"type": "train_loss", "step": step, "epoch": 1, "elbo": bits * LN2, "elbo_filtered": bits * LN2, "rate": LN2,
            "grad_norm": 7.5, "iter_time": 0.5, "skipped_updates": 0, "rate_nans": 0, "distortion_nans": 0, **counts, **changes}


def event(step: int, block: int) -> dict:
    return {"step": step, "rank": 1, "reason": "rate_nan", "origin": "decoder", "block": block, "resolution": 8,
            "prior_log_sigma_min": -3.0, "prior_log_sigma_max": 1.5, "posterior_log_sigma_min": -7.25, "posterior_log_sigma_max": 91.0}


def append(path, *records) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def shown(watch: Watch) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(watch.picture())
    return console.file.getvalue()


def test_tail_reads_each_line_once_and_waits_for_the_end_of_the_last(tmp_path):
    path = tmp_path / "log.jsonl"
    tail = Tail(path)
    assert tail.news() == []
    append(path, {"a": 1}, {"a": 2})
    with open(path, "a") as file:
        file.write('{"a": ')
    assert tail.news() == [{"a": 1}, {"a": 2}] and tail.news() == []
    with open(path, "a") as file:
        file.write('3}\nnot JSON\n[4]\n{"a": 5}\n')
    assert tail.news() == [{"a": 3}, {"a": 5}]


def test_the_picture_has_figures_counts_blocks_and_the_last_events(tmp_path):
    watch = Watch(tmp_path / "run")
    assert watch.look() == [] and "waiting for the first train line" in shown(watch)
    (tmp_path / "run").mkdir()
    append(tmp_path / "run/log.jsonl", {"type": "hparam", "key": "sigma_param", "value": "explin"},
           {"type": "hparam", "key": "prior_const1", "value": True}, {"type": "hparam", "key": "seed", "value": 3}, train_line(10, 6.0),
           train_line(20, 4.0, total_skipped_updates=7, total_nan_updates=5), {"type": "eval_loss", "elbo": 3.5 * LN2})
    append(tmp_path / "run/events.jsonl", *(event(step, step % 2) for step in range(7)))
    watch.look()
    text = shown(watch)
    for words in ("explin/prior_const1, seed 3, step 20", "2.00 steps/s", "4.0000 bits/dim, of it rate 1.0000", "█▁  4.000 to 6.000",
                  "3.5000 bits/dim", "block 0 (8x8)", "-7.25 .. 91"):
        assert words in text
    assert "│ block 0 (8x8) │ 4 " in text and "│ block 1 (8x8) │ 3 " in text
    assert [line.split("│")[1].strip() for line in text.splitlines() if "rate_nan" in line] == ["2", "3", "4", "5", "6"]
    assert [part.strip() for part in next(line for line in text.splitlines() if "│               7 " in line).split("│")[1:3]] == ["7", "5"]


def test_logs_that_resume_cut_back_are_read_anew(tmp_path):
    append(tmp_path / "log.jsonl", train_line(10), train_line(20, 9.0))
    append(tmp_path / "events.jsonl", event(15, 4))
    watch = Watch(tmp_path)
    watch.look()
    (tmp_path / "log.jsonl").write_text(json.dumps(train_line(10)) + "\n")
    (tmp_path / "events.jsonl").write_text("")
    assert [record["step"] for record in watch.look()] == [10]
    assert "step 10" in shown(watch) and "block 4" not in shown(watch) and list(watch.bits) == pytest.approx([5.0])


def test_without_a_terminal_each_new_figure_is_a_line_and_the_end_of_the_run_is_the_end(tmp_path):
    console, looks = Console(file=io.StringIO()), []

    def pause():
        looks.append(1)
        append(tmp_path / "log.jsonl", train_line(10 * len(looks)))
        if len(looks) == 3:
            append(tmp_path / "log.jsonl", {"type": "eval_loss", "step": 31, "elbo": 2.0})
            (tmp_path / "finished.json").write_text(json.dumps({"iteration": 31, "epoch": 1}))

    follow(tmp_path, console, pause)
    lines = console.file.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["train_loss"] * 3 + ["eval_loss"]
    assert "step 20" in lines[1] and lines[-1] == f"{tmp_path} is finished" and len(looks) == 3


def test_a_run_that_goes_on_after_its_end_is_watched_on(tmp_path):
    append(tmp_path / "log.jsonl", train_line(50))
    (tmp_path / "finished.json").write_text(json.dumps({"iteration": 40, "epoch": 1}))
    watch = Watch(tmp_path)
    watch.look()
    assert not watch.finished
    (tmp_path / "finished.json").write_text(json.dumps({"iteration": 51, "epoch": 1}))
    assert watch.finished


def test_in_a_terminal_the_picture_is_drawn_and_stays(tmp_path):
    append(tmp_path / "log.jsonl", train_line(10))
    (tmp_path / "finished.json").write_text(json.dumps({"iteration": 11, "epoch": 1}))
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    follow(tmp_path, console, lambda: None)
    assert "step 10" in console.file.getvalue() and "is finished" in console.file.getvalue()


def test_curve_goes_from_the_lowest_to_the_highest_and_marks_what_is_not_finite():
    assert curve([2.0, 1.0, math.nan, 1.5]) == "█▁x▄  1.000 to 2.000"
    assert curve([math.inf]) == "x" and curve([3.0]) == "▁  3.000 to 3.000"


def test_command_line(tmp_path, capsys, monkeypatch):
    append(tmp_path / "log.jsonl", train_line(10))
    (tmp_path / "finished.json").write_text(json.dumps({"iteration": 11, "epoch": 1}))
    assert inspect.main([str(tmp_path), "--follow"]) == 0
    assert "train_loss: step 10" in capsys.readouterr().out
    assert inspect.main([str(tmp_path / "log.jsonl"), "--follow"]) == 2
    assert "--follow watches a run folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        inspect.main([str(tmp_path), "--follow", "--json"])
    assert end.value.code == 2
    os.remove(tmp_path / "finished.json")

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    assert inspect.main([str(tmp_path), "--follow"]) == 0
