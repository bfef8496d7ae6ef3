"""What values the settings may have, alone and together; table.py says what each setting is."""

import difflib
import math
from collections.abc import Iterable
from pathlib import Path

from stable_params import parse_parameterization
from stable_params.pixels import MEANS
from vdvae.data.spec import DATASETS
from vdvae.settings.table import SHEET_TEMPERATURES, Settings

CHOICES = {
    "dataset": list(DATASETS),
    "posterior": ["absolute", "residual"],
    "likelihood": ["logistic_mixture", "normal", "bernoulli"],
    "pixel_loc": list(MEANS),
    "binarize": ["random", "threshold"],
    "optimizer": ["adamw", "apex"],
    "precision": [None, "fp32", "tf32", "bf16"],
    "device": [None, "cpu", "cuda"],
    "resume": [None, "must", "auto"],
}
OF_LIKELIHOOD = {"pixel_sigma_param": "normal", "pixel_loc": "normal", "binarize": "bernoulli"}
PIXEL_SCALES = ("bounded", "global")  # beside the flags of stable_params


class HparamsError(ValueError):
    """A flag, a set or a combination of values that cannot be used; the message names it and what is allowed."""


MAXIMA = {"seed": 2**62, "port": 65535, "bits": 16}
UNLIMITED = ("grad_clip", "skip_threshold")  # inf is no limit


def check_number(name: str, value: object, minimum: float | None) -> None:
    """Raise HparamsError for a NaN, an infinity, and a value below `minimum` or above its maximum."""
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value) and name not in UNLIMITED):
        raise HparamsError(f"{name} is {value}, it must be a finite number")
    if name in MAXIMA and (value or 0) > MAXIMA[name]:
        raise HparamsError(f"{name} is {value}, it must be at most {MAXIMA[name]}")
    if minimum is not None and value is not None and value < minimum:
        raise HparamsError(f"{name} is {value}, it must be at least {minimum}")


def check_settings(hparams: Settings) -> None:
    """Raise HparamsError for the first value or combination that cannot be used."""
    _check_choices(hparams)
    _check_ranges(hparams)
    _check_starts(hparams)
    _check_scales(hparams)
    _check_pixels(hparams)
    _check_shown(hparams)
    _check_likelihood(hparams)
    _check_speed(hparams)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A suggestion for a misspelt word, empty if none is near."""
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_choices(hparams: Settings) -> None:
    for name, allowed in CHOICES.items():
        value = getattr(hparams, name)
        if value not in allowed:
            words = ", ".join(str(choice) for choice in allowed if choice)
            raise HparamsError(f"{name} is {value!r}{nearest(value, filter(None, allowed))}; allowed: {words}")


def _check_ranges(hparams: Settings) -> None:
    for name in ("adam_beta1", "adam_beta2", "ema_rate"):
        if getattr(hparams, name) >= 1:
            raise HparamsError(f"{name} is {getattr(hparams, name)}, it must be below 1")
    if -1 < hparams.skip_threshold <= 0:
        raise HparamsError(f"skip_threshold is {hparams.skip_threshold}, it must be above 0, or -1 for no limit")
    if hparams.grad_clip == 0:
        raise HparamsError("grad_clip is 0, it must be above 0")
    if hparams.num_temperatures_visualize > len(SHEET_TEMPERATURES):
        raise HparamsError(f"num_temperatures_visualize is {hparams.num_temperatures_visualize}, it must be at most "
                           f"{len(SHEET_TEMPERATURES)}")


def _check_starts(hparams: Settings) -> None:
    desc = Path(hparams.desc)
    if not desc.name or desc.is_absolute() or ".." in desc.parts:
        raise HparamsError(f"desc is {hparams.desc!r}, it must name the run's folder inside save_dir")
    if hparams.change and not hparams.resume:
        raise HparamsError(f"--change {hparams.change} is for a saved run: add --resume, or give each setting as a flag")
    restored = [name for name in vars(hparams) if name.startswith("restore_") and getattr(hparams, name)]
    if hparams.resume and (restored or hparams.test_eval):
        raise HparamsError(f"--resume restores everything: leave out --{(restored or ['test_eval'])[0]}")
    if hparams.test_eval and not (hparams.restore_path or hparams.restore_ema_path):
        raise HparamsError("--test_eval scores a trained model: give --restore_ema_path or --restore_path")
    if hparams.importance_samples and not hparams.test_eval:
        raise HparamsError(f"--importance_samples {hparams.importance_samples} belongs to --test_eval: give both")


def _check_scales(hparams: Settings) -> None:
    for name in ("sigma_param", "posterior_sigma_param", "prior_sigma_param"):
        if getattr(hparams, name) is not None:
            _check_scale(name, getattr(hparams, name))
    if hparams.prior_const1 and hparams.prior_sigma_param:
        raise HparamsError(f"--prior_const1 fixes the prior's scale, so --prior_sigma_param {hparams.prior_sigma_param} "
                           "would do nothing: give one of the two")


def _check_scale(name: str, flag: str, more: str = "") -> None:
    try:
        parse_parameterization(flag)
    except ValueError as error:
        raise HparamsError(f"--{name}: {error}{more}") from error


def _check_likelihood(hparams: Settings) -> None:
    for name, likelihood in OF_LIKELIHOOD.items():
        if getattr(hparams, name) != getattr(Settings, name) and hparams.likelihood != likelihood:
            raise HparamsError(f"--{name} {getattr(hparams, name)} is for --likelihood {likelihood}, not {hparams.likelihood}: "
                               "leave out one of the two")
    if hparams.pixel_sigma_param not in PIXEL_SCALES:
        _check_scale("pixel_sigma_param", hparams.pixel_sigma_param, f"; or {', '.join(PIXEL_SCALES)}")


def _check_pixels(hparams: Settings) -> None:
    for name in ("channels", "bits"):
        value, has = getattr(hparams, name), getattr(DATASETS[hparams.dataset], name)
        if value is not None and has is not None and value != has:
            raise HparamsError(f"{name} is {value}, but dataset {hparams.dataset} has {has}: leave out --{name}")
    if hparams.pixel_std == 0:
        raise HparamsError("pixel_std is 0.0, it must be above 0: all training images have one grey level")


def _check_shown(hparams: Settings) -> None:
    words, channels = hparams.show_channels.split(","), hparams.channels or DATASETS[hparams.dataset].channels
    if not hparams.show_channels:
        return
    if len(words) not in (1, 3) or not all(word.isascii() and word.isdigit() for word in words):
        raise HparamsError(f"show_channels is {hparams.show_channels!r}, it must be one or three numbers of channels, such as 4,2,0")
    if channels and max(map(int, words)) >= channels:
        raise HparamsError(f"show_channels is {hparams.show_channels}, but the images have channels 0 to {channels - 1}")


def _check_speed(hparams: Settings) -> None:
    if hparams.n_batch % hparams.accumulate_steps:
        raise HparamsError(f"accumulate_steps is {hparams.accumulate_steps}, it must divide n_batch, which is {hparams.n_batch}")
    faster = {"precision": hparams.precision not in (None, "fp32"), "compile": hparams.compile,
              "cuda_graphs": hparams.cuda_graphs, "compress_gradients": hparams.compress_gradients}
    for name in (name for name, on in faster.items() if on and hparams.plain):
        raise HparamsError(f"{name} is {getattr(hparams, name)}, but --plain turns off all that makes training faster: "
                           f"leave out --{name} or --plain")
    if hparams.cuda_graphs and hparams.checkpoint_blocks:
        raise HparamsError("--cuda_graphs cannot record the noise that --checkpoint_blocks draws again: leave one of the two out")
    if hparams.cuda_graphs and hparams.optimizer == "apex":
        raise HparamsError("--cuda_graphs cannot record apex's FusedAdam, which waits for the host: use --optimizer adamw")
    if hparams.cuda_graphs and hparams.compress_gradients:
        raise HparamsError("--cuda_graphs sends gradients in float32, --compress_gradients in bf16: leave one of the two out")
