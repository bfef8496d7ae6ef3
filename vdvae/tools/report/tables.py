"""The page's tables: Table 4 with the paper's figures beside ours, and one line a run."""

from html import escape

from vdvae.tools.inspect import cell
from vdvae.tools.paper_table4 import PaperRow, paper_row
from vdvae.tools.report.cells import spread_cell

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
        cells += _td(spread_cell(**group[key], digits=digits)) + _td(_paper_cell(paper, key), "paper")
    cells += _td(spread_cell(**group["skipped_updates"], digits=1))
    cells += _td(spread_cell(**group["bits_per_dim"], digits=3))
    return f"<tr>{cells}{_td(', '.join(group['splits']))}</tr>"


def _paper_cell(paper: PaperRow | None, key: str) -> str:
    return "-" if paper is None else spread_cell(*getattr(paper, key), digits=_PAPER_DIGITS[key])


def _td(text: str, name: str = "") -> str:
    opening = f'<td class="{name}">' if name else "<td>"
    return f"{opening}{escape(text)}</td>"
