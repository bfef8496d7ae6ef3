"""A run's folder made of lines."""

import json

import pytest


@pytest.fixture
def write_run(tmp_path):
    """Write log.jsonl, and events.jsonl unless events is None; returns the folder."""
    def write(lines, events=(), tail=""):
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
        if events is not None:
            (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in events))
        return tmp_path
    return write
