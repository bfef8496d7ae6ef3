"""Figure 3: originals, reconstructions and samples, the latest sheet of one run of each parameterization."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from vdvae.tools.report.sheets import Sheet

_COLUMNS = 3


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
    axes.imshow(imread(io.BytesIO(sheet.png)), interpolation="nearest")
    axes.set_title(title, fontsize=9)
    row = sheet.height / max(len(labels), 1)
    axes.set_yticks([(n + 0.5) * row for n in range(len(labels))], labels, fontsize=6)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
