"""Figure 3: originals, reconstructions and samples, from the latest sample sheet of a run (training/sample_sheet.py)."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from vdvae.records.run_log import RunLog
from vdvae.settings.table import SHEET_TEMPERATURES

_COLUMNS = 3
_MOST_ROWS = 1000


class Sheet(NamedTuple):
    """A PNG file's bytes, its size in pixels, and a label a row from the top; no labels if the log does not say."""

    name: str
    png: bytes
    width: int
    height: int
    rows: list[str]


def latest_sheet(run: RunLog) -> Sheet | None:
    """The sheet of the highest step in the run's folder, None if it has none; ValueError for a damaged file."""
    path = Path(run.name)
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.iterdir() if re.fullmatch(r"samples-\d+\.png", file.name)]
    if not files:
        return None
    file = max(files, key=lambda file: int(file.stem.removeprefix("samples-")))
    png = file.read_bytes()
    width, height = _size(png, file)
    labels = row_labels(run)
    is_cut = labels and height % len(labels) == 0 and width % (height // len(labels)) == 0  # into rows of square images
    return Sheet(file.name, png, width, height, labels if is_cut else [])


def _size(png: bytes, file: Path) -> tuple[int, int]:
    """Width and height in pixels of a PNG whose checksums are right."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is not a whole PNG file ({error}); it is left out") from error


def row_labels(run: RunLog) -> list[str]:
    """The rows of the run's sheets in words, from its hyper-parameters; empty if they are not in the log."""
    latents = len(run.decoder_resolutions)
    partial, free = run.hparams.get("num_variables_visualize"), run.hparams.get("num_temperatures_visualize")
    if not latents or partial is None or free is None or not 0 <= partial <= _MOST_ROWS or free < 0:
        return []
    depths = np.linspace(0, 1, partial + 2)[1:-1] * latents
    kept = [f"reconstructions, {int(depth)} of {latents} latents" for depth in depths]
    return ["originals", *kept, *(f"samples, temperature {t}" for t in SHEET_TEMPERATURES[:free])]


def draw_figure3(sheets: dict[str, Sheet]) -> Figure:
    """Titles to sheets, three side by side; rows are labelled at the first of three, and where they differ from it."""
    lines = -(-len(sheets) // _COLUMNS)
    columns = min(_COLUMNS, len(sheets))
    tallest = max(sheet.height / sheet.width for sheet in sheets.values())
    figure = Figure(figsize=(2 + 3.2 * columns, lines * (0.4 + 3.1 * tallest)), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels:
        axes.set_axis_off()
    shown = list(sheets.items())
    for n, (axes, (title, sheet)) in enumerate(zip(panels, shown)):
        first = shown[n - n % _COLUMNS][1]
        _draw_sheet(axes, title, sheet, [] if n % _COLUMNS and sheet.rows == first.rows else sheet.rows)
    return figure


def _draw_sheet(axes: Axes, title: str, sheet: Sheet, labels: list[str]) -> None:
    axes.set_axis_on()
    axes.imshow(imread(io.BytesIO(sheet.png)), interpolation="nearest", cmap="gray", vmin=0, vmax=1)  # of grey: 8 or 16 bits
    axes.set_title(title, fontsize=9)
    row = sheet.height / max(len(labels), 1)
    axes.set_yticks([(n + 0.5) * row for n in range(len(labels))], labels, fontsize=6)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
