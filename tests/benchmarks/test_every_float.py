import json
import math
from dataclasses import astuple, dataclass
from pathlib import Path

import mpmath
import pytest
import torch

from benchmarks.accuracy import every_float
from benchmarks.accuracy.every_float import Figures, checked_row, main, sweep, violations, write_rows
from benchmarks.accuracy.floats import floats_of, key_of, ulp
from benchmarks.accuracy.references import REFERENCES, Quantities, reference_of
from stable_params import PARAMETERIZATIONS, Bounded, DownBounded, ExpLin, Scale, SoftClamp, Softplus, UpBounded

CASES = [*PARAMETERIZATIONS.values(), UpBounded(256), UpBounded(1.5), DownBounded(1), DownBounded(1e-6)]
CASES += [Bounded(1e-6, 1), Bounded(1, 2), Bounded(0.5, 1.5), Softplus(3), SoftClamp(2, 0)]
every_dtype = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
FINITE_NUMBERS = {"float16": 2**16 - 2**11, "bfloat16": 2**16 - 2**8}  # all but those with the highest exponent


@pytest.mark.parametrize("dtype", FINITE_NUMBERS)
@pytest.mark.parametrize("flag", [x.flag for x in PARAMETERIZATIONS.values()])
def test_contract_holds_at_every_half_precision_number(swept_halves, dtype, flag):
    row = swept_halves[dtype][flag]
    assert row["violations"] == []
    assert (row["dtype"], row["stride"], row["count"]) == (dtype, 1, FINITE_NUMBERS[dtype])


def test_figures_of_float32_are_there_for_each_parameterization_and_hold():
    rows = json.loads((Path(__file__).parents[1] / "golden" / "every_float32.json").read_text())
    assert set(rows) == {x.flag for x in PARAMETERIZATIONS.values()}
    for flag, row in rows.items():
        assert row["violations"] == [] and row["dtype"] == "float32", flag
        assert row["count"] == len(range(0, 2**32 - 2**24, row["stride"])), flag


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_keys_reach_every_number_once_in_ascending_order(dtype):
    numbers = floats_of(torch.arange(-(2**15), 2**15), dtype)
    assert len(numbers.view(torch.int16).unique()) == 2**16
    present = numbers[~numbers.isnan()].double()
    assert (present.diff() >= 0).all() and (present.diff() == 0).sum() == 1  # -0.0 and +0.0


@every_dtype
def test_key_of_a_number_leads_back_to_it(dtype):
    info = torch.finfo(dtype)
    for number in (-math.inf, info.min, -1.5, -info.tiny, -0.0, 0.0, info.tiny * info.eps, 1.0, info.max, math.inf):
        back = floats_of(torch.tensor([key_of(number, dtype)]), dtype).item()
        assert back == number and math.copysign(1, back) == math.copysign(1, number)


@every_dtype
def test_ulp_is_the_distance_to_the_next_number(dtype):
    if dtype == torch.float64:
        keys = torch.tensor([key_of(x, dtype) for x in (1.0, 1.9, 2.0, 1e-300, 1e300)])
    else:
        keys = torch.linspace(0, key_of(torch.finfo(dtype).max, dtype) - 1, 5001, dtype=torch.float64).long()
    values, following = floats_of(keys, dtype).double(), floats_of(keys + 1, dtype).double()
    assert torch.equal(ulp(values, torch.finfo(dtype)), following - values)


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


# sigma, and its slope, at p with 50 digits.
EXACT = {
    "vanilla": (lambda p: mpmath.exp(p), lambda p: mpmath.exp(p)),
    "naive_exp": (lambda p: mpmath.exp(p), lambda p: mpmath.exp(p)),
    "exp": (lambda p: mpmath.exp(p), lambda p: mpmath.exp(p)),
    "explin": (lambda p: 1 + p if p > 0 else mpmath.exp(p), lambda p: mpmath.exp(min(p, mpmath.mpf(0)))),
    "upbounded": (
        lambda p, w: w / 2 * (2 - mpmath.exp(-p) if p > 0 else mpmath.exp(p)),
        lambda p, w: w / 2 * mpmath.exp(-abs(p)),
    ),
    "downbounded": (lambda p, a: a + mpmath.exp(p), lambda p, a: mpmath.exp(p)),
    "bounded": (lambda p, a, w: a + (w - a) * sigmoid(p), lambda p, a, w: (w - a) * sigmoid(p) * sigmoid(-p)),
    "softplus": (lambda p, b: mpmath.log1p(mpmath.exp(b * p)) / b, lambda p, b: sigmoid(b * p)),
    "softclamp": (
        lambda p, c, f: mpmath.exp(c * mpmath.tanh(p / c)) + f,
        lambda p, c, f: mpmath.exp(c * mpmath.tanh(p / c)) * mpmath.sech(p / c) ** 2,
    ),
    "hardclamp": (
        lambda p, low, high: mpmath.exp(min(max(p, low), high)),
        lambda p, low, high: mpmath.exp(p) if low < p < high else mpmath.mpf(0),
    ),
}


@pytest.mark.parametrize("parameterization", CASES, ids=lambda case: case.flag)
def test_references_agree_with_fifty_digits(parameterization):
    constants = [mpmath.mpf(constant) for constant in astuple(parameterization)]
    magnitudes = torch.cat([torch.logspace(-30, -3, 20), torch.logspace(-2.9, 2.3, 60)])
    raw = torch.cat([-magnitudes, torch.zeros(1), magnitudes])
    info, reference = torch.finfo(torch.float32), reference_of(parameterization)
    quantities = reference.evaluate(raw.double(), info)
    sigma_of, slope_of = EXACT[parameterization.name]
    with mpmath.workdps(100):
        for i, p in enumerate(map(mpmath.mpf, raw.tolist())):
            sigma, slope = sigma_of(p, *constants), slope_of(p, *constants)
            exact = Quantities(sigma, mpmath.log(sigma), slope, slope / sigma)
            for name, values, want, unit in zip(Quantities._fields, quantities, exact, reference.units):
                got = float(values[i])
                size = torch.tensor([max(abs(float(want)), unit)], dtype=torch.float64)
                error = abs(got - want) / float(ulp(size, info))
                outside = float(sigma) > info.max or float(sigma) < info.tiny
                promised = not (parameterization.name == "naive_exp" and outside and name.startswith("log"))
                assert (error < 1e-6 if promised else math.isnan(got)), (name, float(p), got, mpmath.nstr(want, 20))


def test_each_parameterization_of_the_table_has_a_reference():
    assert set(REFERENCES) == set(PARAMETERIZATIONS) == set(EXACT)


@dataclass(frozen=True)
class Broken(ExpLin):
    """ExpLin with one thing changed."""

    def __init__(self, change):
        object.__setattr__(self, "change", change)

    def _scale(self, raw):
        return self.change(raw, super()._scale(raw))


def replaced(field, where, value):
    """A change that puts the value, or what a function makes of the old one, into a field where a condition holds."""

    def change(raw, scale):
        old = getattr(scale, field)
        new = value(old) if callable(value) else torch.full_like(raw, value)
        return scale._replace(**{field: torch.where(where(raw), new, old)})

    return change


BREAKS = {
    "log_sigma is off by": replaced("log_sigma", lambda p: p == 1.5, lambda old: old * 1.01),
    "sigma is off by nan": replaced("sigma", lambda p: p == 1.5, math.nan),
    "log_sigma is infinite": replaced("log_sigma", lambda p: p == -65504, -math.inf),
    "sigma falls by": replaced("sigma", lambda p: p == 2, 2.9),
    "slope rises to": replaced("sigma", lambda p: p > 100, lambda old: old + 1e-2 * (old - old.detach())),
    "log_slope falls to": replaced("log_sigma", lambda p: p == 3, lambda old: 2 * old.detach() - old),
    "slope is off by nan": replaced("sigma", lambda p: p == 4, lambda old: old + 0 * (old - old.detach()).sqrt()),
    "log_slope jumps by": replaced("log_sigma", lambda p: p > 0, lambda old: 1.01 * old - 0.01 * old.detach()),
    "sigma of a NaN is a number": lambda raw, scale: Scale(scale.sigma.nan_to_num(1.0), scale.log_sigma),
    "log_sigma of a NaN is a number": replaced("log_sigma", lambda p: p.isnan() & p.signbit(), 1.0),
    "at an end of the range: sigma is off": replaced("sigma", lambda p: p == math.inf, 1.0),
}


@pytest.mark.parametrize("complaint", BREAKS)
def test_each_break_of_the_contract_is_found(complaint, monkeypatch):
    broken, reference = Broken(BREAKS[complaint]), reference_of(ExpLin())
    monkeypatch.setitem(REFERENCES, "explin", lambda *_: reference)
    found = violations(broken, torch.float16, sweep(broken, torch.float16))
    assert any(complaint in text for text in found), found


def test_a_fall_from_one_part_of_the_sweep_to_the_next_is_found():
    reference = reference_of(ExpLin())
    left = every_float.measure(ExpLin(), reference, torch.tensor([1.0, 2.0]))
    right = every_float.measure(ExpLin(), reference, torch.tensor([1.5, 3.0]))
    assert isinstance(left, Figures) and left.merge(right).fall > 1 and right.merge(right).fall > 1
    assert left.merge(every_float.measure(ExpLin(), reference, torch.tensor([2.0, 3.0]))).fall == 0


def test_processes_find_what_one_finds(monkeypatch):
    monkeypatch.setattr(every_float, "SEGMENT", 1 << 13)
    alone = checked_row(Bounded(0.1, 256), torch.float32, stride=200_003)
    shared = checked_row(Bounded(0.1, 256), torch.float32, stride=200_003, workers=2)
    assert alone == shared and alone["count"] == 21_391 and alone["violations"] == []


def test_command_line_writes_rows_and_says_that_the_contract_holds(tmp_path, capsys):
    path = tmp_path / "rows.json"
    write_rows(path, {"kept": {"stride": 1}, "explin": {"stride": 2}})
    assert main(["--dtype", "bfloat16", "--stride", "7", "--param", "explin", "--output", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert rows["kept"] == {"stride": 1} and rows["explin"]["stride"] == 7 and rows["explin"]["max_ulp_sigma"] <= 1
    assert "explin bfloat16 stride 7" in capsys.readouterr().out


def test_command_line_fails_when_the_contract_is_broken(monkeypatch, capsys):
    monkeypatch.setattr(ExpLin, "_scale", lambda self, raw: Scale(raw.exp(), raw))
    assert main(["--dtype", "float16", "--param", "explin"]) == 1
    assert "BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stride", "0"], "a whole number above 0 is needed, got '0'"),
        (["--workers", "two"], "a whole number above 0 is needed, got 'two'"),
        (["--param", "explim"], "did you mean explin?"),
        (["--dtype", "float8"], "invalid choice: 'float8'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err
