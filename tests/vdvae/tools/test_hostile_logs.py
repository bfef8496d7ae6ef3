"""Whatever lines a log holds, inspect and compare print a report, or end with code 2 and one line."""

import contextlib
import io
import json
import math
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.vdvae.records.log_lines import OWN_HPARAMS, hparam_lines, loss_line, train_line
from vdvae.tools import compare, inspect
from vdvae.tools.follow import follow

INPUTS = int(os.environ.get("HOSTILE_INPUTS", "150"))  # of each test; HOSTILE_INPUTS=20000 for a long run, of other inputs each time
hostile = settings(max_examples=INPUTS, deadline=None, derandomize=INPUTS == 150, database=None)

EVENT = {"time": "t", "step": 5, "epoch": 1, "rank": 0, "reason": "rate_nan", "skipped": True, "origin": "decoder", "block": 1,
         "resolution": 4, "quantity": "kl", "prior_log_sigma_min": math.nan, "prior_log_sigma_max": 2.0, "posterior_log_sigma_min": -7.0,
         "posterior_log_sigma_max": None, "max_loc_diff_over_sigma": 1e20}  # fmt: skip
SETTINGS = OWN_HPARAMS | {"dec_blocks": "1x1,4m1,4x2", "posterior": "absolute", "spectral_reg": 0.0, "max_consecutive_skips": 100, "lr": 1e-4,
                          "iters_per_print": 10, "num_variables_visualize": 1, "num_temperatures_visualize": 2}  # fmt: skip
LINES = [*hparam_lines(SETTINGS), train_line(10, {}), train_line(20, {"skipped_updates": 3, "nan_updates": 1}), train_line(10),
         loss_line("eval_loss", 20, 2.0) | {"rate_per_block": [0.5, 0.0]}, loss_line("test_loss", 20, 2.0), {"time": "t", "message": "m"}]  # fmt: skip

texts = st.sampled_from(["", "[/x]", "[bold red]", "\x1b[31mred", "\x1b]0;title\x07", "\ud800", "a\nb", "$\\frac{$", "_", "ü", "\x9b1m",
                         "block", "1x99999999999", "-", "<b>"]) | st.text(max_size=8)  # fmt: skip
numbers = st.sampled_from([-1, 0, 1, 0.5, 2**53, 2**63, 10**18, 10**400, -(10**400), math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324,
                           -0.0, 1e15, 10**15]) | st.integers() | st.floats()  # fmt: skip
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5)
raw = st.sampled_from([b"", b"{", b"null", b"[1, 2]", b"[" * 3000, b'{"a": ' * 3000, b'{"type": ' + b"[" * 900 + b"]" * 900 + b"}", b"\xff\xfe",
                       b'{"type": "hparam", "key": "seed", "value": 1' + b"0" * 5000 + b"}",
                       b'{"type": "hparam", "key": "lr", "value": ' + b"[" * 400 + b"]" * 400 + b"}"]) | st.binary(max_size=20)  # fmt: skip


@st.composite
def damaged(draw, lines: list[dict]) -> bytes:
    """One of `lines`; one in three has a field that is removed, replaced or new, one in twenty is anything."""
    chance = draw(st.integers(0, 19))
    if chance == 0:
        return draw(raw)
    line = draw(st.sampled_from(lines))
    if chance < 8:
        key = draw(st.sampled_from(sorted(line) * 3) | texts)
        line = {**line, key: draw(scalars | values)} if draw(st.booleans()) else {name: line[name] for name in line if name != key}
    return json.dumps(line).encode()


def files(lines: list[dict]) -> st.SearchStrategy[bytes]:
    several = st.lists(damaged(lines), min_size=1, max_size=6)
    return st.tuples(several, st.sampled_from([b"\n", b"\n", b"", b'\n{"ty', b"\r\n"])).map(lambda parts: b"\n".join(parts[0]) + parts[1])


logs = st.tuples(st.integers(0, 9), files(LINES)).map(lambda parts: START * (parts[0] > 0) + parts[1])
START = b"".join(json.dumps(line).encode() + b"\n" for line in LINES[:-5])


def run(main, *arguments) -> None:
    """Run a command and check what it printed; the streams are strict UTF-8, as those of a terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors) for errors in ("strict", "backslashreplace"))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, arguments)])
    printed, said = ((stream.flush(), stream.buffer.getvalue().decode())[1] for stream in (out, err))
    assert all(char.isprintable() or char == "\n" for char in printed + said), printed + said
    if code == 0:
        assert printed
    else:
        assert code == 2 and not printed and said.count("\n") == 1 and said.endswith("\n") and len(said) < 1000, said


@hostile
@given(logs, st.none() | files([EVENT]))
def test_inspect_and_compare_print_a_report_or_one_line(log, events):
    with tempfile.TemporaryDirectory() as name:
        Path(name, "log.jsonl").write_bytes(log)
        if events is not None:
            Path(name, "events.jsonl").write_bytes(events)
        run(inspect.main, name)
        run(inspect.main, name, "--json")
        run(compare.main, name, name)


@hostile
@given(logs, files([EVENT]), st.integers(0, 50) | values, st.booleans())
def test_follow_shows_what_is_good(log, events, end, is_terminal):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log.jsonl").write_bytes(log)
        (folder / "events.jsonl").write_bytes(events)
        (folder / "finished.json").write_text(json.dumps({"iteration": end}))
        console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), force_terminal=is_terminal, markup=False, width=100)

        def finish():
            (folder / "log.jsonl").write_bytes(b"")
            (folder / "finished.json").write_text(json.dumps({"iteration": 10**6, "epoch": 1}))

        follow(folder, console, finish)
        console.file.flush()
        shown = console.file.buffer.getvalue().decode()
        assert "is finished" in shown and (is_terminal or all(char.isprintable() or char == "\n" for char in shown)), shown
