"""Checks each scale parameterization and its slopes at every float16, bfloat16 or float32 number.

    python -m benchmarks.accuracy.every_float --dtype float16
    python -m benchmarks.accuracy.every_float --stride 4099 --param explin --param bounded0.1_256
    python -m benchmarks.accuracy.every_float --dtype float32 --output tests/golden/every_float32.json

Exit code 1 when a check fails. Errors are in ULP against the float64 formulas of benchmarks/accuracy/references.py.
"""

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.accuracy.floats import BITS, floats_of, key_of, ulp
from benchmarks.accuracy.references import Quantities, Reference, reference_of
from stable_params import PARAMETERIZATIONS, Parameterization, parse_parameterization

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
SEGMENT = 1 << 22  # keys per task of a worker process
# Keys at a time: few enough to stay in the cache, many enough to outweigh the calls.
PIECE = {torch.float16: 1 << 10, torch.bfloat16: 1 << 10, torch.float32: 1 << 16}


@dataclass(frozen=True)
class Extent:
    """What a sweep saw of one quantity at finite raw values, NaN left out of `low` and `high` but counted.

    `error` is in ULP of the value or of the reference's unit, the larger; `own_error` in ULP of the value alone, the
    worst of them in the piece that starts at raw = `near`. Both are NaN where a promised number came out as NaN.
    """

    low: float
    high: float
    nans: int
    error: float
    own_error: float
    near: float

    def merge(self, other: "Extent") -> "Extent":
        worst = other if other.own_error > self.own_error or math.isnan(other.own_error) else self
        low, high, nans = min(self.low, other.low), max(self.high, other.high), self.nans + other.nans
        error = float(np.maximum(self.error, other.error))  # NaN if either is
        return Extent(low, high, nans, error, worst.own_error, worst.near)


@dataclass(frozen=True)
class Figures:
    """What a sweep saw of all four quantities, and the largest fall of sigma, in ULP, below a value to its left."""

    extents: Quantities
    fall: int
    lowest_sigma: int
    highest_sigma: int

    def merge(self, right: "Figures") -> "Figures":
        """The figures of this range of raw values and of one to the right of it."""
        return Figures(
            Quantities(*(a.merge(b) for a, b in zip(self.extents, right.extents))),
            max(self.fall, right.fall, self.highest_sigma - right.lowest_sigma),
            min(self.lowest_sigma, right.lowest_sigma),
            max(self.highest_sigma, right.highest_sigma),
        )


def evaluate(parameterization: Parameterization, raw: Tensor) -> Quantities:
    """sigma, log sigma and their slopes at raw, without a graph."""
    raw = raw.detach().requires_grad_()
    scale = parameterization(raw)
    ones = torch.ones_like(raw)
    slopes = [torch.autograd.grad(field, raw, ones, retain_graph=True)[0] for field in scale]
    return Quantities(scale.sigma.detach(), scale.log_sigma.detach(), *slopes)


def measure(parameterization: Parameterization, reference: Reference, raw: Tensor) -> Figures:
    """Figures of ascending raw values."""
    actual = evaluate(parameterization, raw)
    info = torch.finfo(raw.dtype)
    expected = reference.evaluate(raw.double(), info)
    extents = Quantities(*(_extent(raw, info, *row) for row in zip(actual, expected, reference.units)))
    sigma = actual.sigma.view(BITS[raw.dtype]).int()  # sigma is never negative: its bits ascend with it
    fall = int((sigma.cummax(0).values - sigma).max())
    return Figures(extents, fall, int(sigma.min()), int(sigma.max()))


def _extent(raw: Tensor, info: torch.finfo, actual: Tensor, expected: Tensor, unit: float) -> Extent:
    overflow = 2.0 ** math.frexp(info.max)[1]  # the number after the largest one: rounding to inf is half an ULP off
    target = expected.clamp(-overflow, overflow)
    error = (actual.double().clamp(-overflow, overflow) - target).abs().masked_fill(expected.isnan(), 0)
    own = float((error / ulp(target, info)).amax())
    shared = float((error / ulp(target.abs().clamp(min=unit), info)).amax()) if unit else own
    nan = actual.isnan()
    low, high = actual.masked_fill(nan, math.inf).amin(), actual.masked_fill(nan, -math.inf).amax()
    return Extent(float(low), float(high), int(nan.sum()), shared, own, float(raw[0]))


def violations(parameterization: Parameterization, dtype: torch.dtype, figures: Figures) -> list[str]:
    """What breaks the contract, in words: in a sweep's figures, at NaN and infinite raw values and at the joins."""
    reference, info = reference_of(parameterization), torch.finfo(dtype)
    ends = torch.tensor([-math.inf, info.min, info.max, math.inf], dtype=dtype)
    figures_of_ends = measure(parameterization, reference, ends)
    found = _wrong_extents(reference, info, figures.extents)
    found += [f"at an end of the range: {text}" for text in _wrong_extents(reference, info, figures_of_ends.extents)]
    log_sigma = figures.extents.log_sigma
    if reference.finite_log_sigma and (log_sigma.low == -math.inf or log_sigma.high == math.inf):
        found.append(f"log_sigma is infinite: [{log_sigma.low!r}, {log_sigma.high!r}]")
    if (fall := max(figures.fall, figures_of_ends.fall)) > reference.fall:
        found.append(f"sigma falls by {fall} ULP as raw rises, limit {reference.fall}")
    found += [f"{name} of a NaN is a number" for name in _numbers_of_nan(parameterization, dtype)]
    return found + [text for join in reference.joins for text in _gaps(parameterization, reference, join, dtype)]


def _wrong_extents(reference: Reference, info: torch.finfo, extents: Quantities) -> list[str]:
    limits = reference.limits(info)
    bounds = Quantities(math.inf, math.inf, reference.slope_bound, reference.log_slope_bound)
    found = []
    for name, extent, limit, bound, unit in zip(Quantities._fields, extents, limits, bounds, reference.units):
        if not extent.error <= limit:
            found.append(f"{name} is off by {extent.error:.3g} ULP, limit {limit:.3g}; look near p = {extent.near!r}")
        if extent.high > bound * (1 + info.eps):
            found.append(f"{name} rises to {extent.high!r}, above {bound!r}")
        if extent.low < -unit * info.eps and name != "log_sigma":
            found.append(f"{name} falls to {extent.low!r}, below 0")
    return found


def _numbers_of_nan(parameterization: Parameterization, dtype: torch.dtype) -> Iterator[str]:
    """Names of the fields of Scale that are not NaN for every NaN of the dtype."""
    infinity, highest = key_of(math.inf, dtype), torch.iinfo(BITS[dtype]).max
    for first in range(infinity + 1, highest + 1, SEGMENT):
        keys = torch.arange(first, min(first + SEGMENT, highest + 1))
        for nans in (floats_of(keys, dtype), floats_of(-1 - keys, dtype)):
            yield from (name for name, field in parameterization(nans)._asdict().items() if not field.isnan().all())


def _gaps(parameterization: Parameterization, reference: Reference, join: float, dtype: torch.dtype) -> Iterator[str]:
    """Quantities that change by more than an ULP from one number to the next around a join."""
    key = key_of(join, dtype)
    actual = evaluate(parameterization, floats_of(torch.arange(key - 2, key + 2), dtype))
    for name, values, unit in zip(Quantities._fields, actual, reference.units):
        values = values.double()
        size = values.abs().clamp(min=unit)
        gap = (values.diff().abs() / ulp(torch.maximum(size[1:], size[:-1]), torch.finfo(dtype))).max()
        if not gap <= 1:
            yield f"{name} jumps by {float(gap):.3g} ULP at p = {join}"


def sweep(parameterization: Parameterization, dtype: torch.dtype, stride: int = 1, workers: int = 1) -> Figures:
    """Figures over every `stride`-th finite number of the dtype, from the lowest on, with a progress bar.

    With more than one worker, as many processes share the work, each on one thread.
    """
    keys = _finite_keys(dtype)[::stride]
    segments = [keys[start : start + SEGMENT] for start in range(0, len(keys), SEGMENT)]
    measured = partial(_measure_segment, parameterization, dtype)
    if workers == 1 or len(segments) == 1:
        return _joined(map(measured, segments), len(segments), parameterization.flag)
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        return _joined(pool.imap(measured, segments), len(segments), parameterization.flag)


def _finite_keys(dtype: torch.dtype) -> range:
    return range(key_of(torch.finfo(dtype).min, dtype), key_of(torch.finfo(dtype).max, dtype) + 1)


def _joined(parts: Iterable[Figures], count: int, label: str) -> Figures:
    return reduce(Figures.merge, tqdm(parts, desc=label, total=count, unit="segment", leave=False, disable=None))


def _measure_segment(parameterization: Parameterization, dtype: torch.dtype, keys: range) -> Figures:
    reference = reference_of(parameterization)
    pieces = (keys[start : start + PIECE[dtype]] for start in range(0, len(keys), PIECE[dtype]))
    raws = (floats_of(torch.arange(piece.start, piece.stop, piece.step), dtype) for piece in pieces)
    return reduce(Figures.merge, (measure(parameterization, reference, raw) for raw in raws))


def checked_row(parameterization: Parameterization, dtype: torch.dtype, stride: int = 1, workers: int = 1) -> dict:
    """Figures, provenance and violations of one sweep as JSON types; infinities are written as Python's json does."""
    figures = sweep(parameterization, dtype, stride, workers)
    count = len(_finite_keys(dtype)[::stride])
    row = {"dtype": str(dtype).removeprefix("torch."), "stride": stride, "count": count, "torch": torch.__version__}
    for name, extent in zip(Quantities._fields, figures.extents):
        row[f"max_ulp_{name}"] = extent.own_error
        row[f"max_ulp_{name}_at"] = extent.near
        row[f"max_ulp_{name}_of_unit"] = extent.error
        row[f"lowest_{name}"], row[f"highest_{name}"] = extent.low, extent.high
        row[f"nans_{name}"] = extent.nans
    return row | {"max_fall_ulp_sigma": figures.fall, "violations": violations(parameterization, dtype, figures)}


def write_rows(path: Path, rows: dict[str, dict]) -> None:
    """Puts rows into the JSON file at `path`, by flag, and keeps the file's other rows."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(dict(sorted((kept | rows).items())), indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Sweeps as the command line says; 1 when a check failed, else 0."""
    options = _parser().parse_args(arguments)
    dtype, rows = DTYPES[options.dtype], {}
    for parameterization in options.param or PARAMETERIZATIONS.values():
        start = time.perf_counter()
        row = rows[parameterization.flag] = checked_row(parameterization, dtype, options.stride, options.workers)
        print(_line(parameterization.flag, row, time.perf_counter() - start), flush=True)
    if options.output:
        write_rows(options.output, rows)
    return int(any(row["violations"] for row in rows.values()))


def _line(flag: str, row: dict, seconds: float) -> str:
    pairs = ((name, row[f"max_ulp_{name}"], row[f"max_ulp_{name}_of_unit"]) for name in Quantities._fields)
    errors = ", ".join(f"{name} {own:.3g} ({shared:.3g})" for name, own, shared in pairs)
    result = "holds" if not row["violations"] else "BROKEN\n  " + "\n  ".join(row["violations"])
    run = f"{flag} {row['dtype']} stride {row['stride']}: {seconds:.1f} s"
    return f"{run}; errors in ULP of the value (of the unit): {errors}; {result}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.every_float", description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="numbers to sweep")
    parser.add_argument("--stride", type=_positive, default=1, help="take every STRIDE-th number only")
    parser.add_argument("--param", type=_parameterization, action="append", help="a flag; default: the parse table")
    parser.add_argument("--workers", type=_positive, default=2, help="processes, one thread each")
    parser.add_argument("--output", type=Path, help="JSON file into which the rows go, by flag")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, got {text!r}")
    return int(text)


def _parameterization(flag: str) -> Parameterization:
    try:
        return parse_parameterization(flag)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
