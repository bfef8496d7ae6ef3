"""The table of docs/contract.md, one row per parameterization, every cell measured.

    python -m benchmarks.accuracy.contract            prints it
    python -m benchmarks.accuracy.contract --write    puts it into docs/contract.md

Figures of float32 come from tests/golden/every_float32.json, which benchmarks/accuracy/every_float.py writes; all others are
measured anew, within seconds.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.accuracy.every_float import checked_row
from benchmarks.accuracy.floats import floats_of, key_of
from stable_params import PARAMETERIZATIONS, Normal, Parameterization, Scale

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "contract.md"
FLOAT32_ROWS = ROOT / "tests" / "golden" / "every_float32.json"
OPENING, CLOSING = "<!-- contract table -->\n", "<!-- end -->"
SWEPT_HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
HEADINGS = (
    *("flag", "domain", "σ at −∞, ∞", "log σ at −∞, ∞", "σ, p finite", "log σ, p finite"),
    *("slope of σ", "slope of log σ", "error of σ, ULP", "error of log σ, ULP", "σ falls, ULP"),
    *("float16", "bfloat16", "float32", "float64", "where σ underflows"),
)
CAPTION = """\
p is the raw value. Ranges and errors are float32's unless a dtype is named, measured at {numbers}. An error of log σ
is in ULP of log σ or of the largest logarithm of a constant that it is a sum of, whichever is larger; in brackets in
ULP of log σ itself, which is large where the sum nears 0. The next column is the most by which σ falls below its value
at a smaller p. The columns of the dtypes say where 0 < σ < ∞, and for the
halves the errors of σ and log σ, measured at every number. The last column has the largest p at which σ is 0 in
float32 (where there is none, the lowest p), and there log σ, the KL from N(0, σ²) to N(0, 1) and the slope of the KL
in p. `python -m benchmarks.accuracy.contract` makes the table, from sweeps by `python -m benchmarks.accuracy.every_float`.
"""


def half_rows() -> dict[str, dict[str, dict]]:
    """Rows of the full float16 and bfloat16 sweeps, by dtype and flag."""
    table = PARAMETERIZATIONS.values()
    return {name: {x.flag: checked_row(x, dtype) for x in table} for name, dtype in SWEPT_HALVES.items()}


def contract_table(float32_rows: dict[str, dict], halves: dict[str, dict[str, dict]]) -> str:
    """The markdown table and its caption; KeyError names a flag of the parse table that has no float32 row."""
    rows = [HEADINGS, ["---"] * len(HEADINGS)]
    for parameterization in PARAMETERIZATIONS.values():
        swept = {"float32": float32_rows[parameterization.flag]}
        swept |= {name: rows_of_half[parameterization.flag] for name, rows_of_half in halves.items()}
        rows.append(_cells(parameterization, swept))
    strides = sorted({float32_rows[x.flag]["stride"] for x in PARAMETERIZATIONS.values()})
    numbers = "every number" if strides == [1] else f"every n-th number, n = {', '.join(map(str, strides))}"
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\n" + CAPTION.format(numbers=numbers)


def _cells(parameterization: Parameterization, swept: dict[str, dict]) -> list[str]:
    row, flag = swept["float32"], f"`{parameterization.flag}`"
    ends = parameterization(torch.tensor([-math.inf, math.inf]))
    limits = [", ".join(map(_number, field.tolist())) for field in ends]
    names = ("sigma", "log_sigma", "slope", "log_slope")
    ranges = [f"[{_number(row[f'lowest_{name}'])}, {_number(row[f'highest_{name}'])}]" for name in names]
    dtypes = [*SWEPT_HALVES.values(), torch.float32, torch.float64]
    positive = [_positive_range(parameterization, dtype) for dtype in dtypes]
    halves = [f"{text}; {_ceiling(swept[name]['max_ulp_sigma'])}, {_ceiling(swept[name]['max_ulp_log_sigma_of_unit'])} ULP"
              for name, text in zip(SWEPT_HALVES, positive)]
    errors = [_ceiling(row["max_ulp_sigma"]), _log_error(row), str(row["max_fall_ulp_sigma"])]
    return [flag, _domain(row), *limits, *ranges, *errors, *halves, *positive[2:], _underflow(parameterization)]


def _domain(row: dict) -> str:
    """Whether any quantity is NaN at a number."""
    words = {"sigma": "σ", "log_sigma": "log σ", "slope": "slope of σ", "log_slope": "slope of log σ"}
    broken = [f"{words[name]} NaN at {row[f'nans_{name}'] / row['count']:.0%}" for name in words if row[f"nans_{name}"]]
    return "; ".join(["every p", *broken])


def _log_error(row: dict) -> str:
    own, shared = _ceiling(row["max_ulp_log_sigma"]), _ceiling(row["max_ulp_log_sigma_of_unit"])
    return f"{shared} ({own} near p = {_number(row['max_ulp_log_sigma_at'])})" if own != shared else own


def _positive_range(parameterization: Parameterization, dtype: torch.dtype) -> str:
    """Where sigma is neither 0 nor infinite."""
    lowest = _first(parameterization, dtype, lambda sigma: sigma > 0)
    overflow = _first(parameterization, dtype, lambda sigma: sigma == math.inf)
    start = "" if lowest == torch.finfo(dtype).min else f"{_number(lowest)} ≤ "
    end = "" if overflow is None else f" < {_number(overflow)}"
    return f"{start}p{end}" if start or end else "every p"


def _first(parameterization: Parameterization, dtype: torch.dtype, holds: Callable[[Tensor], Tensor]) -> float | None:
    """The lowest finite number where a property of sigma holds, which must hold from there on; None if none."""
    low, high = key_of(torch.finfo(dtype).min, dtype), key_of(torch.finfo(dtype).max, dtype) + 1
    end = high
    while low < high:
        middle = (low + high) // 2
        if holds(parameterization(floats_of(torch.tensor([middle]), dtype)).sigma):
            high = middle
        else:
            low = middle + 1
    return None if low == end else floats_of(torch.tensor([low]), dtype).item()


def _underflow(parameterization: Parameterization) -> str:
    """The largest float32 p at which sigma is 0, and log sigma and the KL to N(0, 1) there; or at the lowest p."""
    positive = key_of(_first(parameterization, torch.float32, lambda sigma: sigma > 0), torch.float32)
    never = positive == key_of(torch.finfo(torch.float32).min, torch.float32)
    raw = floats_of(torch.tensor([positive if never else positive - 1]), torch.float32).requires_grad_()
    zero = torch.zeros(1)
    normal = parameterization.normal(zero, raw)
    kl = normal.kl(Normal(zero, Scale(torch.ones(1), zero)))
    slope = torch.autograd.grad(kl, raw)[0]
    log_sigma, kl, slope = (_number(x.item()) for x in (normal.scale.log_sigma, kl, slope))
    where = f"{'never; ' if never else ''}p = {_number(raw.item())}"
    return f"{where}: log σ {log_sigma}, KL {kl}, slope {slope}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if math.isnan(value):
        return "NaN"
    mantissa, _, power = f"{value + 0.0:.5g}".partition("e")  # -0.0 + 0.0 is 0.0
    return (f"{mantissa}e{int(power)}" if power else mantissa).replace("-", "−")


def _ceiling(value: float) -> str:
    """Two significant digits, rounded up: a bound stays a bound."""
    if value == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return _number(float(f"{math.ceil(value / step) * step:.2g}"))


def with_table(document: str, table: str) -> str:
    """The document with the table between its two markers; ValueError when it lacks one."""
    before, opening, rest = document.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not (opening and closing):
        raise ValueError(f"{DOCUMENT.name} needs the lines {OPENING.strip()!r} and {CLOSING!r} around the table")
    return before + opening + table + closing + after


def main(arguments: list[str] | None = None) -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.contract", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/contract.md")
    options = parser.parse_args(arguments)
    table = contract_table(json.loads(FLOAT32_ROWS.read_text()), half_rows())
    if options.write:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text(), table))
    else:
        print(table)


if __name__ == "__main__":
    main()
