"""A mean and its standard deviation as text, for the terminal and for the page."""

import math

from vdvae.tools.inspect import cell


def spread_cell(mean: float | None, std: float | None, digits: int) -> str:
    """`4.0 ± 3.6`, or the mean alone without a deviation; `-` for unknown, `nan` and `inf` as they are."""
    if mean is None or not math.isfinite(mean):
        return cell(mean)
    written = f".{digits}f" if abs(mean) < 1e6 else ".2e"
    if std is None:
        return f"{mean:{written}}".removesuffix(".0")
    return f"{mean:{written}} ± {std:{written}}"
