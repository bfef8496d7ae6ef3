"""Reading damaged logs: a cut-off last line is left out and named, anything else that is wrong is an error."""

import json

import pytest

from tests.vdvae.records.log_lines import event, hparam_lines, own, train_line
from vdvae.records.run_log import read_run


def test_line_cut_off_at_the_end_is_left_out_and_said(write_run):
    run = read_run(write_run(own(train_line(10, {})), tail='{"time": "t", "type": "tra'))
    assert run.last_step == 10
    assert run.notes == ["log.jsonl: the last line (8) was cut off in mid-write and is left out"]


def test_event_cut_off_inside_a_character_is_left_out_and_said(write_run):
    folder = write_run(own(train_line(10, {})))
    (folder / "events.jsonl").write_bytes('{"time": "é'.encode()[:-1])
    assert read_run(folder).notes == ["events.jsonl: the last line (1) was cut off in mid-write and is left out"]


def test_whole_last_line_without_newline_counts(write_run):
    assert read_run(write_run(own(), tail=json.dumps(train_line(7, {})))).last_step == 7


@pytest.mark.parametrize("line, message", [
    ("{garbage", "line 7: not JSON"),
    ("", "line 7: not JSON"),
    ("[1, 2]", "line 7: expected a JSON object"),
    ('{"type": "hparam", "key": "lr"}', "line 7: value is missing"),
    ('{"type": "eval_loss", "step": 3}', "line 7: elbo is missing"),
    ('{"type": "eval_loss", "step": 3.5, "elbo": 1.0}', "line 7: step is 3.5"),
])
def test_bad_line_is_named(write_run, line, message):
    with pytest.raises(ValueError, match=message):
        read_run(write_run(own(), tail=line + "\n" + json.dumps(train_line(7, {})) + "\n"))


def test_train_line_with_some_totals_missing_is_named(write_run):
    line = train_line(7, {})
    del line["total_grad_nans"]
    with pytest.raises(ValueError, match="line 7: total_grad_nans is missing"):
        read_run(write_run(own(line)))


@pytest.mark.parametrize("line, message", [
    (event(1, "sneezed"), "line 1: reason is 'sneezed', must be one of rate_nan, distortion_nan, grad_nan, high_grad"),
    ({"step": 1, "reason": "rate_nan"}, "line 1: origin is missing"),
    ({"reason": "rate_nan", "origin": "encoder"}, "line 1: step is missing"),
    (3, "line 1: expected a JSON object"),
])
def test_bad_event_is_named(write_run, line, message):
    with pytest.raises(ValueError, match=f"events.jsonl, {message}"):
        read_run(write_run(own(), [line]))


def test_bad_iters_per_print_is_named(write_run):
    with pytest.raises(ValueError, match="iters_per_print is 0"):
        read_run(write_run(hparam_lines({"seed": 1, "iters_per_print": 0}) + [train_line(0)]))


@pytest.mark.parametrize("lines", [[], [{"time": "t", "message": "hello"}], [event(1, "rate_nan")]])
def test_file_without_log_lines_is_refused(write_run, lines):
    with pytest.raises(ValueError, match="is not a run's log"):
        read_run(write_run(lines))


def test_missing_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; a run folder .* holds log.jsonl"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"log.jsonl does not exist"):
        read_run(tmp_path)
    (tmp_path / "log.txt").write_text("hello")
    with pytest.raises(ValueError, match="neither a run folder nor a .jsonl file"):
        read_run(tmp_path / "log.txt")
