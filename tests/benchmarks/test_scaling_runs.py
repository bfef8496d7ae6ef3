"""Measured scaling, with a stand-in for train.py that says how it was started and logs times made up by a test."""

import json
import re

import pytest

from benchmarks.cost import scaling
from benchmarks.cost.scaling import main
from benchmarks.cost.scaling_runs import SETUPS, TRAIN, images_per_second, measure, measured_table, seconds_per_update

PROGRAM = '''
import json, os, sys, time
from pathlib import Path

flags = dict(zip(sys.argv[1:], sys.argv[2:]))
study = Path(__file__).parent
size, rank = int(os.environ.get("PMI_SIZE", "1")), int(os.environ.get("PMI_RANK", "0"))
call = {"size": size, "rank": rank, "threads": os.environ["OMP_NUM_THREADS"], "updates": flags["--num_iters"]}
with open(study / "calls.jsonl", "a") as calls:
    calls.write(json.dumps(call) + "\\n")
if (study / "fail").exists():
    sys.exit("no memory")
folder = Path(flags["--save_dir"]) / flags["--desc"]
if rank == 0:
    folder.mkdir(parents=True)
    lines = [{"type": "train_loss", "step": step, "iter_time": 0.25 * size} for step in (15, 20, 25)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
'''


@pytest.fixture()
def program(tmp_path):
    path = tmp_path / "stand-in.py"
    path.write_text(PROGRAM)
    return path


def calls(program):
    return [json.loads(line) for line in (program.parent / "calls.jsonl").read_text().splitlines()]


def test_each_setup_starts_its_ranks_with_one_thread(program):
    for setup in SETUPS:
        (program.parent / "calls.jsonl").unlink(missing_ok=True)
        images_per_second(setup, 26, program)
        started = calls(program)
        assert len(started) == setup.workers and {call["size"] for call in started} == {setup.ranks}
        assert {(call["threads"], call["updates"]) for call in started} == {("1", "26")}


def test_images_are_those_of_all_ranks_and_runs(program):
    assert [images_per_second(setup, 26, program) for setup in SETUPS] == [8 / 0.25, 2 * 8 / 0.25, 16 / 0.5]


def test_setups_take_turns(program):
    figures = measure(2, 26, program)
    assert list(figures) == list(SETUPS) and all(len(values) == 2 for values in figures.values())
    assert [call["size"] for call in calls(program)] == [1, 1, 1, 2, 2, 2, 2, 1, 1, 1]


def test_a_run_that_fails_is_told_with_what_it_said(program):
    (program.parent / "fail").touch()
    with pytest.raises(RuntimeError, match="a run of two ranks ended with code 1:\n(.|\n)*no memory"):
        images_per_second(SETUPS[2], 26, program)


def test_warm_up_and_the_last_line_do_not_count(tmp_path):
    times = {0: 9.0, 5: 8.0, 10: 7.0, 15: 1.0, 20: 3.0, 25: 2.0, 29: 0.1}
    lines = [{"type": "train_loss", "step": step, "iter_time": seconds} for step, seconds in times.items()]
    lines = [{"type": "hparam", "key": "lr"}, {"message": "hello"}, *lines, {"type": "eval_loss", "step": 30}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds_per_update(tmp_path / "log.jsonl") == 2.0


def test_efficiency_is_against_as_many_single_ranks():
    figures = dict(zip(SETUPS, ([10.0, 12.0, 50.0], [18.0, 1.0, 20.0], [12.0, 15.0, 13.0])))
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in measured_table(figures).splitlines()[2:]]
    assert rows == [["one rank", "12.0", "10.0 to 50.0", "1.00"],
                    ["two runs of one rank at once", "18.0", "1.0 to 20.0", "0.75"],
                    ["two ranks", "13.0", "12.0 to 15.0", "0.54"]]


def test_train_py_is_measured():
    assert images_per_second(SETUPS[2], 22, TRAIN) > 0


def test_command_line_measures(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "measure", lambda rounds, updates: {SETUPS[0]: [float(rounds), float(updates)]})
    main(["--measure", "--rounds", "2", "--updates", "30"])
    assert "| one rank | 16.0       | 2.0 to 30.0 | 1.00" in capsys.readouterr().out
