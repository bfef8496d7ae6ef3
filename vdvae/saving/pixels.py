"""Channels, bits and standardisation of own images: a resumed run, or one that begins from weights, has those of the saved run."""

from dataclasses import replace
from pathlib import Path

from vdvae.data.spec import DATASETS
from vdvae.records.log import LOG_FILE
from vdvae.records.run_log import read_run
from vdvae.settings.hparams import Hparams

PIXEL_SETTINGS = ("channels", "bits", "pixel_mean", "pixel_std")


def with_pixels_of(hparams: Hparams, saved: dict) -> Hparams:
    """`hparams` with those PIXEL_SETTINGS of a saved run, whose settings are `saved`, that are None; for a folder alone."""
    if DATASETS[hparams.dataset].channels is not None:
        return hparams
    pixels = saved_pixels(saved)
    return replace(hparams, **{name: value for name, value in pixels.items() if getattr(hparams, name) is None})


def saved_pixels(saved: dict) -> dict[str, float]:
    """The PIXEL_SETTINGS of a saved run; where it has none, those that its data set had before there were such settings."""
    spec = DATASETS[saved["dataset"]]
    before = dict(zip(PIXEL_SETTINGS, (spec.channels or 3, spec.bits or 8, -spec.shift, 1 / spec.scale)))
    return {name: value if saved.get(name) is None else saved[name] for name, value in before.items()}


def with_pixels_of_weights(hparams: Hparams) -> Hparams:
    """`hparams` with the PIXEL_SETTINGS of the run whose weights it starts from, if that run's log lies beside them."""
    weights = hparams.restore_path or hparams.restore_ema_path
    if not weights or not (Path(weights).parent / LOG_FILE).is_file():
        return hparams
    saved = read_run(Path(weights).parent).hparams
    return with_pixels_of(hparams, saved) if saved.get("dataset") in DATASETS else hparams
