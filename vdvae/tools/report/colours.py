"""One colour a parameterization, told apart by the colour-blind too (Okabe & Ito), the same in every figure."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")


def line_styles(labels: list[str]) -> dict[str, dict[str, str]]:
    """Matplotlib's `color` and `linestyle` for each label; the colours begin again with a dashed line after seven."""
    return {
        label: {"color": _COLOURS[n % len(_COLOURS)], "linestyle": _STYLES[n // len(_COLOURS) % len(_STYLES)]}
        for n, label in enumerate(labels)
    }
