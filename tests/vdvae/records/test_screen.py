"""A process outlives its outputs: streams that fail, streams that were closed when it began."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from tests.vdvae.runs import assert_same, train
from vdvae.records.screen import ignore_output_errors

ROOT = Path(__file__).resolve().parents[3]


class Broken(io.StringIO):
    """A terminal that takes one line and then is gone."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "\n" in self.getvalue():
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if "\n" in self.getvalue():
            raise self.error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "Input/output error"), BrokenPipeError(),
                                   ValueError("I/O operation on closed file"), UnicodeEncodeError("ascii", "ü", 0, 1, "no")])
def test_a_stream_that_fails_takes_what_it_can_and_raises_nothing(monkeypatch, error):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Broken(error))
    streams = (sys.stdout, sys.stderr)
    ignore_output_errors()
    assert sys.stdout.isatty()
    print("first")
    print("second", flush=True)
    print("first", file=sys.stderr, flush=True)
    with tqdm(total=3, file=sys.stderr) as bar:
        tqdm.write("third")
        bar.update(3)
    assert [stream.getvalue() for stream in streams] == ["first\n", "first\n"]


def test_a_run_whose_outputs_fail_is_the_undisturbed_one(undisturbed, tmp_path, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Broken(BrokenPipeError()))
    ignore_output_errors()
    assert_same(train(tmp_path), undisturbed)


CLOSED = """
import os
from vdvae.records.screen import ignore_output_errors
ignore_output_errors()
print("nobody reads this", flush=True)
open("file", "w").write("whole")
for number in (1, 2):
    os.write(number, b"what a library writes")
"""


@pytest.mark.parametrize("closing", ["<&- >&- 2>&-", ">&-", "2>&-", ">/dev/full", "2>/dev/full >&2"])
def test_a_process_whose_streams_are_closed_or_full_ends_with_0_and_mixes_no_file_with_them(tmp_path, closing):
    code = CLOSED if "full" not in closing else CLOSED.partition("for ")[0] + "print('not flushed')"
    done = subprocess.run(["bash", "-c", f'"$@" {closing}', "bash", sys.executable, "-c", code], cwd=tmp_path,
                          env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "whole"
