import json
import math
import re

import pytest
import torch

from benchmarks.accuracy.contract import CLOSING, DOCUMENT, FLOAT32_ROWS, OPENING, contract_table, main, with_table
from stable_params import PARAMETERIZATIONS

NUMBER = re.compile(r"−?\d+(?:\.\d+)?(?:e−?\d+)?")


@pytest.fixture(scope="module")
def table(swept_halves):
    return contract_table(json.loads(FLOAT32_ROWS.read_text()), swept_halves)


def cells_of(table):
    """Cells by flag and heading."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {cells[0].strip("`"): dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]}


@pytest.fixture(scope="module")
def rows(table):
    return cells_of(table)


def numbers(text):
    return [float(number.replace("−", "-")) for number in NUMBER.findall(text)]


def test_the_document_has_the_table_that_the_program_makes(table, rows):
    written = DOCUMENT.read_text().partition(OPENING)[2].partition(CLOSING)[0]
    assert NUMBER.sub("#", written) == NUMBER.sub("#", table), "run python -m benchmarks.accuracy.contract --write"
    # Another processor's exp may differ in its last place, and with it the largest error of a half. Its log1p may keep
    # the smallest number or take it for 0: then σ is above 0 from half that number on, or from 1.5 times it, where exp
    # rounds to its double. That moves log σ there, below -100, by ln 3.
    tolerances = dict.fromkeys(("float16", "bfloat16"), 0.1)
    tolerances |= dict.fromkeys(("float32", "float64", "where σ underflows"), math.log(3) / 100)
    for flag, cells in cells_of(written).items():
        for heading, cell in cells.items():
            rel = tolerances.get(heading, 1e-4)
            assert numbers(cell) == pytest.approx(numbers(rows[flag][heading]), rel=rel), (flag, heading)


def test_table_has_one_full_row_for_each_parameterization(rows):
    assert list(rows) == [x.flag for x in PARAMETERIZATIONS.values()]
    assert all(cell for row in rows.values() for cell in row.values())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("flag", ["exp", "vanilla", "naive_exp"])
def test_range_of_sigma_is_that_of_the_exponential(rows, dtype, flag):
    info = torch.finfo(getattr(torch, dtype))
    # exp rounds to 0 from half the smallest number down, to infinity from half an ULP above the largest number on. The
    # table shows five digits of the number next to that point.
    zero, infinity = (math.log2(info.tiny) + math.log2(info.eps) - 1) * math.log(2), math.log(info.max)
    assert numbers(rows[flag][dtype])[:2] == pytest.approx([zero, infinity], rel=info.eps + 5e-5)


def test_bounded_forms_never_leave_the_range(rows):
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        assert rows["bounded0.1_256"][dtype].startswith("every p")
    assert rows["bounded0.1_256"]["σ at −∞, ∞"] == rows["bounded0.1_256"]["σ, p finite"].strip("[]") == "0.1, 256"


def test_underflow_column_shows_what_breaks_and_what_does_not(rows):
    p = math.log(2**-150)
    assert numbers(rows["exp"]["where σ underflows"])[:2] == pytest.approx([p, p], rel=1e-4)
    assert rows["exp"]["where σ underflows"].endswith("KL 103.47, slope −1")
    assert "log σ −∞" in rows["naive_exp"]["where σ underflows"]
    assert "slope of log σ NaN" in rows["naive_exp"]["domain"] and rows["exp"]["domain"] == "every p"


def test_only_the_part_between_the_markers_is_replaced():
    document = f"# Title\n{OPENING}old\n{CLOSING}\nrest\n"
    assert with_table(document, "new\n") == f"# Title\n{OPENING}new\n{CLOSING}\nrest\n"


@pytest.mark.parametrize("document", ["# Title\n", f"{OPENING}no end", f"{CLOSING}\n"])
def test_a_document_without_both_markers_is_refused(document):
    with pytest.raises(ValueError, match="contract.md needs the lines '<!-- contract table -->' and '<!-- end -->'"):
        with_table(document, "new\n")


def test_a_parameterization_without_float32_figures_is_named(swept_halves):
    figures = json.loads(FLOAT32_ROWS.read_text())
    del figures["explin"]
    with pytest.raises(KeyError, match="explin"):
        contract_table(figures, swept_halves)


def test_stride_of_the_float32_sweeps_is_told(swept_halves):
    figures = json.loads(FLOAT32_ROWS.read_text())
    full = {flag: row | {"stride": 1} for flag, row in figures.items()}
    assert "measured at every number." in contract_table(full, swept_halves)
    figures["explin"]["stride"] = 99_991
    assert "99991" in contract_table(figures, swept_halves)


def test_command_line_writes_or_prints(monkeypatch, swept_halves, tmp_path, capsys):
    document = tmp_path / "contract.md"
    document.write_text(f"before\n{OPENING}{CLOSING}\nafter\n")
    monkeypatch.setattr("benchmarks.accuracy.contract.DOCUMENT", document)
    monkeypatch.setattr("benchmarks.accuracy.contract.half_rows", lambda: swept_halves)
    main(["--write"])
    main([])
    assert document.read_text() == f"before\n{OPENING}{capsys.readouterr().out.removesuffix(chr(10))}{CLOSING}\nafter\n"
