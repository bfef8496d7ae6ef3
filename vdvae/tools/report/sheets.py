"""A run's latest sample sheet, `samples-N.png`, and what its rows are (vdvae/training/sample_sheet.py draws them)."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vdvae.tools.report.skip_counts import decoder_resolutions
from vdvae.records.run_log import RunLog

TEMPERATURES = (1.0, 0.9, 0.8, 0.7)  # those of vdvae.training.sample_sheet, which imports torch


class Sheet(NamedTuple):
    """A PNG file's bytes, its size in pixels, and a label a row from the top; no labels if the log does not tell."""

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
    return Sheet(file.name, png, width, height, _fitting(row_labels(run), width, height))


def _size(png: bytes, file: Path) -> tuple[int, int]:
    """Width and height in pixels of a PNG whose checksums are right."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{file} is not a whole PNG file ({error}); it is left out") from error


def row_labels(run: RunLog) -> list[str]:
    """The rows of the run's sheets in words, from its hyper-parameters; empty if they are not in the log."""
    latents = len(decoder_resolutions(run))
    partial, free = (run.hparams.get(f"num_{name}_visualize") for name in ("variables", "temperatures"))
    if not latents or not isinstance(partial, int) or not isinstance(free, int):
        return []
    depths = np.linspace(0, 1, partial + 2)[1:-1] * latents
    kept = [f"reconstructions, {int(depth)} of {latents} latents" for depth in depths]
    return ["originals", *kept, *(f"samples, temperature {t}" for t in TEMPERATURES[:free])]


def _fitting(labels: list[str], width: int, height: int) -> list[str]:
    """The labels if the sheet can be cut into that many rows of square images, else none."""
    fits = labels and height % len(labels) == 0 and width % (height // len(labels)) == 0
    return labels if fits else []
