"""Results that survive an interruption, and files that hold something else."""

import math

import pytest

from experiments.shared.results import ResultsFile

SETTINGS = {"steps": 3, "dataset": "photos32", "lrs": (0.1, 0.2)}


@pytest.fixture()
def path(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl", SETTINGS)
    results.add(("explin", 0.1, 0), {"loss": 1.5})
    results.add(("explin", 0.1, 1), {"loss": math.inf, "first_nan": None})
    return results.path


def test_what_was_added_is_done_when_the_file_is_opened_again(path):
    done = ResultsFile(path, SETTINGS).done
    assert done == {("explin", 0.1, 0): {"loss": 1.5}, ("explin", 0.1, 1): {"loss": math.inf, "first_nan": None}}


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_cut_off_in_mid_write_is_done_again(path, cut):
    with open(path, "rb+") as file:
        file.truncate(path.stat().st_size - cut)
    results = ResultsFile(path, SETTINGS)
    assert list(results.done) == [("explin", 0.1, 0)]
    results.add(("explin", 0.1, 1), {"loss": 2.0})
    assert ResultsFile(path, SETTINGS).done["explin", 0.1, 1] == {"loss": 2.0}


def test_other_settings_are_refused_by_name_and_nothing_changes(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="steps 3, now 4: give the values it has"):
        ResultsFile(path, SETTINGS | {"steps": 4})
    with pytest.raises(ValueError, match="seed None, now 1"):
        ResultsFile(path, SETTINGS | {"seed": 1})
    assert path.read_bytes() == before


@pytest.mark.parametrize("line, content, message", [
    (1, b'{"loss": 1}', "line 1: not the settings"), (1, b"[1, 2]", "line 1: expected a JSON object"),
    (2, b'{"key": ["explin"', "line 2: not JSON"), (2, b"\xff\xfe", "line 2: not JSON"), (2, b'{"loss": 1}', "line 2: not a result"),
    (3, b"7", "line 3: expected a JSON object")])  # fmt: skip
def test_damage_is_named_and_left_alone(path, line, content, message):
    lines = path.read_bytes().splitlines()
    lines[line - 1] = content
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        ResultsFile(path, SETTINGS)
    assert path.read_bytes() == before


def test_an_empty_file_is_not_taken_for_results(tmp_path):
    (tmp_path / "results.jsonl").touch()
    with pytest.raises(ValueError, match="line 1: not the settings"):
        ResultsFile(tmp_path / "results.jsonl", SETTINGS)
