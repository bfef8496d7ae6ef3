"""Signals that end a run: heard once, at the second one at once, whatever becomes of the screen and on any system."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.vdvae.runs import FLAGS
from vdvae.saving.run_state import saved_states
from vdvae.training import stop_signals
from vdvae.training.stop_signals import SIGNALS, StopRequest, listening

ROOT = Path(__file__).resolve().parents[3]


def command(folder: Path, *flags) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *FLAGS, "--save_dir", str(folder), "--desc", "run", *flags]


@pytest.fixture()
def hangups_end_a_process():
    """Also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_saves_and_exits_with_75_even_if_the_screen_is_a_full_disk(tmp_path, hangups_end_a_process):
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(command(tmp_path, "--num_iters", "100000", "--max_consecutive_skips", "0"), stdout=full, stderr=full)
    log = tmp_path / "run/log.jsonl"
    while not (log.is_file() and '"train_loss"' in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
    assert process.wait() == 75
    (state,) = saved_states(tmp_path / "run")[:1]
    assert json.loads((state / "position.json").read_text())["iteration"] > 0 and (tmp_path / "run/latest-model.th").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_each_signal_is_heard_and_the_second_ends_at_once(monkeypatch, number):
    codes, before = [], [signal.getsignal(each) for each in SIGNALS]
    monkeypatch.setattr(os, "_exit", codes.append)
    with listening(StopRequest()) as stop:
        assert stop.name is None
        os.kill(os.getpid(), number)
        assert stop.name == number.name and codes == []
        os.kill(os.getpid(), number)
        assert codes == [128 + number]
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_hangup_is_heard_and_not_counted(monkeypatch, hangups_end_a_process):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with listening(StopRequest()) as stop:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
            assert stop.name in ("SIGHUP", "SIGTERM") and not codes
        os.kill(os.getpid(), signal.SIGTERM)
        assert codes == [128 + signal.SIGTERM]


def test_under_nohup_a_hangup_stays_ignored(hangups_end_a_process):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with listening(StopRequest()) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.name is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.name == "SIGTERM"


def test_signals_that_a_system_lacks_are_left_out(monkeypatch):
    monkeypatch.delattr(signal, "SIGUSR1")
    monkeypatch.delattr(signal, "SIGHUP")  # as on Windows
    module = runpy.run_path(stop_signals.__file__)
    assert module["SIGNALS"] == [signal.SIGTERM, signal.SIGINT]
    with module["listening"](module["StopRequest"]()) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.name == "SIGTERM"
