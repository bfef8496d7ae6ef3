"""All files of the report: made in memory first, so that a failure leaves no half a folder."""

import io
import json
import warnings
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from vdvae.data.files import filled_whole
from vdvae.records.run_log import RunLog
from vdvae.tools.report.figure2 import draw_figure2
from vdvae.tools.report.figure3 import Sheet, draw_figure3, latest_sheet
from vdvae.tools.report.page import page
from vdvae.tools.report.rate_figure import draw_rates
from vdvae.tools.report.skip_map import SkipMap, draw_skip_map, skip_map
from vdvae.tools.report.table4 import runs_csv
from vdvae.tools.report.verdict_figure import draw_verdict

_DOTS_PER_INCH = 150


def write_report(folder: Path, runs: list[RunLog], report: dict) -> None:
    """Write report.html, report.json, report.csv and the figures; `report` is what vdvae.tools.compare.report returns.

    Raises OSError if the folder cannot be made or written; then nothing is left there.
    """
    files = report_files(runs, report)
    with filled_whole(folder):
        for name, content in files.items():
            (folder / name).write_bytes(content)


def report_files(runs: list[RunLog], report: dict) -> dict[str, bytes]:
    """File names to contents; figure3.png only if a run has a sample sheet, rates.png only if one logged its rates."""
    # Names are no formulas; a line of a million points is drawn in parts, and what a font or a layout lacks is no error.
    with rc_context({"text.parse_math": False, "agg.path.chunksize": 10_000}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return _files(runs, report)


def _files(runs: list[RunLog], report: dict) -> dict[str, bytes]:
    labels = [group["parameterization"] for group in report["groups"]]
    sheets, damaged = _latest_sheets(runs)
    figures = {"verdict": _png(draw_verdict(runs, labels)), "figure2": _png(draw_figure2(runs, labels)),
               "skips": _png(draw_skip_map(_skip_maps(runs, labels)))}
    rates = draw_rates(runs, labels)
    figures |= {"rates": _png(rates)} if rates else {}
    shown = _one_each(runs, labels, sheets)
    titled = {f"{run.parameterization}, seed {run.seed}: {run.name}": sheets[run.name]
              for run in _in_order(runs, labels) if run.name in sheets}
    datasets = sorted({str(run.hparams["dataset"]) for run in runs if "dataset" in run.hparams})
    files = {
        "report.html": page(report | {"notes": report["notes"] + damaged}, datasets, figures, titled).encode(errors="backslashreplace"),
        "report.json": (json.dumps(report, indent=1) + "\n").encode(),
        "report.csv": runs_csv(report["runs"]).encode(errors="backslashreplace"),
        **{f"{name}.png": png for name, png in figures.items()},
    }
    return files | ({"figure3.png": _png(draw_figure3(shown))} if shown else {})


def _skip_maps(runs: list[RunLog], labels: list[str]) -> dict[str, SkipMap]:
    """A map for each label, all over the same steps."""
    steps = [run.last_step or 0 for run in runs] + [int(run.events["step"].max()) for run in runs if run.events]
    return {label: skip_map([run for run in runs if run.parameterization == label], max(steps)) for label in labels}


def _latest_sheets(runs: list[RunLog]) -> tuple[dict[str, Sheet], list[str]]:
    """Each run's latest sheet by the run's name, and a note for each file that cannot be shown."""
    sheets, notes = {}, []
    for run in runs:
        try:
            sheets[run.name] = latest_sheet(run)
        except ValueError as error:
            notes.append(f"{run.name}: {error}")
    return {name: sheet for name, sheet in sheets.items() if sheet}, notes


def _one_each(runs: list[RunLog], labels: list[str], sheets: dict[str, Sheet]) -> dict[str, Sheet]:
    """Titles to the sheet of the first run of each label that has one."""
    first = {}
    for run in _in_order(runs, labels):
        if run.name in sheets:
            first.setdefault(run.parameterization, run)
    return {f"{label}, seed {run.seed}": sheets[run.name] for label, run in first.items()}


def _in_order(runs: list[RunLog], labels: list[str]) -> list[RunLog]:
    return sorted(runs, key=lambda run: (labels.index(run.parameterization), run.seed is None, run.seed or 0))


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
    return file.getvalue()
