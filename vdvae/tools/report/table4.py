"""The tables: Table 4 with the paper's figures beside ours, and one line a run, as HTML and as CSV.

The paper is Dehaene & Brossard 2021 (arXiv 2106.13739): VDVAE on CIFAR-10, 300 epochs, seeds 0 to 2.
"""

import csv
import io
import math
from html import escape
from typing import NamedTuple

from vdvae.tools.inspect import cell

PAPER_SETTING = "The paper's figures are for the cifar10 set, 300 epochs, seeds 0 to 2, two 16 GB V100."


class PaperRow(NamedTuple):
    """Mean and standard deviation over three seeds, as printed; `nelbo` is the test NELBO in nats per dimension."""

    high_gradients: tuple[float, float]
    nan_updates: tuple[float, float]
    nelbo: tuple[float, float]


PAPER_TABLE_4 = {
    "vanilla": PaperRow((22, 9), (13, 3), (2.014, 0.009)),
    "upbounded1": PaperRow((0, 0), (0, 0), (2.020, 0.006)),
    "explin": PaperRow((47, 61), (0, 0), (2.030, 0.011)),
    "vanilla/prior_const1": PaperRow((37, 43), (14, 16), (2.009, 0.003)),
    "upbounded1/prior_const1": PaperRow((2645, 2063), (0, 0), (2.028, 0.007)),
    "explin/prior_const1": PaperRow((1, 1), (0, 0), (2.006, 0.008)),
}


def paper_row(parameterization: str) -> PaperRow | None:
    """The paper's row for a label of `RunLog.parameterization`, None without one; the original's code is Vanilla."""
    return PAPER_TABLE_4.get("vanilla" if parameterization == "original" else parameterization)


def spread_cell(mean: float | None, std: float | None, digits: int) -> str:
    """`4.0 ± 3.6`, or the mean alone without a deviation; `-` for unknown, `nan` and `inf` as they are."""
    if mean is None or not math.isfinite(mean):
        return cell(mean)
    written = f".{digits}f" if abs(mean) < 1e6 else ".2e"
    if std is None:
        return f"{mean:{written}}".removesuffix(".0")
    return f"{mean:{written}} ± {std:{written}}"


def runs_csv(rows: list[dict]) -> str:
    """The rows of `report()["runs"]` under their keys; None is an empty field, losses may be nan or inf."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


_PAIRED = {"high_gradients": ("high gradients", 1), "nan_updates": ("NaN updates", 1), "nelbo": ("NELBO, nats/dim", 3)}
_PAPER_DIGITS = {"high_gradients": 0, "nan_updates": 0, "nelbo": 3}


def table4(groups: list[dict]) -> str:
    """HTML; a paper's cell is `-` where the paper has no such parameterization."""
    plain = ("parameterization", "runs", "seeds")
    after = ("skipped updates", "bits/dim", "split")
    first = "".join(f'<th rowspan="2">{name}</th>' for name in plain)
    first += "".join(f'<th colspan="2">{title}</th>' for title, _ in _PAIRED.values())
    first += "".join(f'<th rowspan="2">{name}</th>' for name in after)
    second = '<th>ours</th><th class="paper">paper</th>' * len(_PAIRED)
    rows = "".join(_group_row(group) for group in groups)
    return f"<table><thead><tr>{first}</tr><tr>{second}</tr></thead><tbody>{rows}</tbody></table>"


def runs_table(rows: list[dict]) -> str:
    """HTML; one line a run under the keys of `report()["runs"]`."""
    heads = "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in rows[0])
    lines = "".join("<tr>" + "".join(_td(cell(value)) for value in row.values()) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _group_row(group: dict) -> str:
    cells = _td(group["parameterization"]) + _td(str(group["runs"])) + _td(", ".join(map(cell, group["seeds"])))
    paper = paper_row(group["parameterization"])
    for key, (_, digits) in _PAIRED.items():
        printed = spread_cell(*getattr(paper, key), digits=_PAPER_DIGITS[key]) if paper else "-"
        cells += _td(spread_cell(**group[key], digits=digits)) + _td(printed, "paper")
    cells += _td(spread_cell(**group["skipped_updates"], digits=1))
    cells += _td(spread_cell(**group["bits_per_dim"], digits=3))
    return f"<tr>{cells}{_td(', '.join(group['splits']))}</tr>"


def _td(text: str, name: str = "") -> str:
    opening = f'<td class="{name}">' if name else "<td>"
    return f"{opening}{escape(text)}</td>"
