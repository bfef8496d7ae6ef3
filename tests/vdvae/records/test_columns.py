"""Lines that a pattern takes give what JSON gives, and no other lines are taken."""

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vdvae.records.log_lines import event, train_line
from vdvae.records.columns import Columns
from vdvae.records.jsonl import parse_line
from vdvae.records.lines import Event, TrainLine

INPUTS = int(os.environ.get("HOSTILE_INPUTS", "400"))
DECODER = {"origin": "decoder", "block": 3, "resolution": 8, "quantity": "kl", "prior_log_sigma_min": math.nan, "prior_log_sigma_max": -math.inf}
SAMPLES = {TrainLine: [train_line(10, {}), train_line(10), train_line(11, {}, elbo=1e-5, model="ü", note=None)],
           Event: [event(1, "rate_nan"), event(2, "high_grad") | DECODER, {"time": "t", "step": 3, "reason": "grad_nan", "origin": "unknown", "skipped": False}]}


def encoded(record: dict) -> bytes:
    return json.dumps(record).encode() + b"\n"


def read(columns: Columns) -> str:
    words = {number: word for word, number in columns.words.items()}
    kept = {name: [words[value] if name in ("reason", "origin", "quantity") and value in words else value for value in columns[name] + 0.0]  # -0 is 0
            for name in columns.names}
    return repr((kept, [columns.absent(name).tolist() for name in columns.names]))


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_line_like_one_before_needs_no_json(kind):
    columns = Columns(kind)
    for record in SAMPLES[kind]:
        assert not columns.take(encoded(record))
        columns.add(record, encoded(record))
        assert columns.take(encoded(record | {"time": "later", "step": 77}))
    assert columns["step"][1::2].tolist() == [77, 77, 77]


PIECES = [*"0123456789.-+eE\"\\,: {}[]_\n", "NaN", "Infinity", "null", "true", "1e400", "\u0661"]


@settings(max_examples=INPUTS, deadline=None, derandomize=INPUTS == 400, database=None)
@given(st.sampled_from([(kind, record) for kind, records in SAMPLES.items() for record in records]),
       st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2), st.sampled_from(PIECES)), min_size=1, max_size=2))
def test_what_a_pattern_takes_json_reads_alike(sample, changes):
    kind, record = sample
    line = bytearray(encoded(record))
    for place, cut, piece in changes:
        line[place % len(line):place % len(line) + cut] = piece.encode()
    columns, expected = Columns(kind), Columns(kind)
    for each in (columns, expected):
        each.add(record, encoded(record))
    if columns.take(bytes(line)):
        expected.add(parse_line(bytes(line)), b"")
        assert read(columns) == read(expected)
