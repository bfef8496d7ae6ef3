"""report.html: tables, figures, warnings and sample sheets in one file that opens without a network."""

import base64
from html import escape

from vdvae.tools.report.figure3 import Sheet
from vdvae.tools.report.table4 import PAPER_SETTING, runs_table, table4

_ROW_PIXELS = (24, 128)  # smallest and largest height of one row of a sheet on the page

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1260px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid #e5e5e5; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid #999; text-align: center; }
.paper { color: #666; background: #f6f6f6; }
.warning { background: #fff4d6; border-left: 4px solid #e69f00; padding: .4em .8em; margin: .3em 0; }
.note, figcaption { color: #555; font-size: 13px; }
.warning, .note, figcaption { overflow-wrap: anywhere; }
figure { margin: 1em 0; } figure.plot img { max-width: 100%; height: auto; }
.sheets { display: flex; flex-wrap: wrap; gap: .8em; }
.sheet { display: flex; gap: .6em; } .sheet img { image-rendering: pixelated; max-width: 100%; }
.rows { display: flex; flex-direction: column; font-size: 10px; color: #555; text-align: right; white-space: nowrap; }
.rows span { flex: 1; display: flex; align-items: center; justify-content: flex-end; }
.sheets figure { margin: .5em 0; max-width: 100%; } .sheets figcaption { width: 0; min-width: 100%; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


def page(report: dict, datasets: list[str], figures: dict[str, bytes], sheets: dict[str, Sheet]) -> str:
    """The page's HTML. `figures` holds PNGs by `verdict`, `figure2`, `skips` and, if there are any, `rates`.

    `sheets` holds each run's latest sheet by its title.
    """
    parts = [
        _section("Did it help?", _list(report["verdict"]) + _plot(figures["verdict"], _VERDICT) + _next(report["next"])),
        _section("Table 4", _wide(table4(report["groups"])) + _paragraph(_table_note(datasets, report["groups"]))),
        _section("Warnings", "".join(f'<p class="warning">{escape(text)}</p>' for text in report["warnings"])),
        _section("Figure 2: loss and skipped updates", _plot(figures["figure2"], _FIGURE2)),
        _section("Skip map", _plot(figures["skips"], _SKIPS)),
        _section("Rates: which latents carry information", _plot(figures["rates"], _RATES) if "rates" in figures else ""),
        _section("Figure 3: originals, reconstructions and samples", _sheets(sheets)),
        _section("Runs", _wide(runs_table(report["runs"])) + _paragraph(_RUNS)),
        _section("Notes", _list(report["notes"], "note")),
    ]
    body = "\n".join(part for part in parts if part)
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>VDVAE runs compared</title>'
            f"<style>{_STYLE}</style></head>\n<body><h1>VDVAE runs compared</h1>\n{body}\n</body></html>\n")


def data_uri(png: bytes) -> str:
    """A PNG as the text of an img's src."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _table_note(datasets: list[str], groups: list[dict]) -> str:
    ours = f"These runs: data set {', '.join(datasets)}. " if datasets else ""
    splits = sorted({split for group in groups for split in group["splits"]})
    measured = f"Our losses are of the split {' or '.join(splits)}, the paper's of the test images. "
    return (f"Mean ± sample standard deviation over the runs. {ours}{measured}{PAPER_SETTING} Losses on other data, after other "
            "lengths or on other splits do not compare with them. The paper's Vanilla is the original code.")


def _next(command: str) -> str:
    return f"<p>Next, where it began: <code>{escape(command)}</code></p>"


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}" if content else ""


def _paragraph(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _wide(table: str) -> str:
    return f'<div class="wide">{table}</div>'


def _list(texts: list[str], name: str = "") -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="{name}">{items}</ul>' if items else ""


def _plot(png: bytes, caption: str) -> str:
    alt = escape(caption.split(".")[0])
    image = f'<img src="{data_uri(png)}" alt="{alt}">'
    return f'<figure class="plot">{image}<figcaption>{escape(caption)}</figcaption></figure>'


def _sheets(sheets: dict[str, Sheet]) -> str:
    figures = "".join(_sheet(title, sheet) for title, sheet in sheets.items())
    return _paragraph(_FIGURE3) + f'<div class="sheets">{figures}</div>' if figures else ""


def _sheet(title: str, sheet: Sheet) -> str:
    labels = "".join(f"<span>{escape(label)}</span>" for label in sheet.rows)
    rows = len(sheet.rows) or 1
    height = f' style="height: {rows * min(max(sheet.height // rows, _ROW_PIXELS[0]), _ROW_PIXELS[1])}px"'
    caption = escape(f"{title} ({sheet.name})")
    image = f'<img src="{data_uri(sheet.png)}" alt="{caption}"{height if sheet.rows else ""}>'
    content = f'<div class="sheet"><div class="rows">{labels}</div>{image}</div>'
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


_VERDICT = ("Training loss of all runs, and the updates that each run skipped. A triangle in the grey band is a loss above the "
            "axis, or not finite.")
_FIGURE2 = ("Training NELBO and skipped updates of every run. One colour is one parameterization, one line one run. "
            "A triangle in the grey band is a log line whose loss is far above most (more than three interquartile "
            "ranges, and a tenth, above the upper quartile) or in which no update had a finite loss.")
_SKIPS = ("Events by where they started and when, summed over the runs of a parameterization. An event is one reason "
          "on one rank of one skipped update; rows in forward order, block 0 first, image size in brackets. A log "
          "without events, such as the original code's, counts its skipped updates as of unknown origin.")
_RATES = ("The rate (KL) of each decoder block in the averaged model, mean over seeds; lines go from the smallest to the "
          "largest seed. Of the test images where a run scored them, else of the validation images. The bars of a panel add up to "
          "the whole rate.")
_FIGURE3 = ("Each run's latest sample sheet, one column an image. From the top: originals from the validation images; "
            "reconstructions whose first latents are the posterior's and whose others are drawn at temperature 0.1; "
            "free samples at falling temperatures, from 1.0.")
_RUNS = "NELBO in nats per dimension; counts are updates of the whole run; - stands for what a log does not say."
