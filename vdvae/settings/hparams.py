"""Hyper-parameters: the table of settings with its checks, the sets in hps/, the command line that overrides them."""

import argparse
import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import get_args

from stable_params import Constant, Parameterization, parse_parameterization
from vdvae.data.spec import DATASETS, DatasetSpec
from vdvae.settings.architecture_checks import check_architecture
from vdvae.settings.auto_blocks import auto_decoder_blocks, auto_encoder_blocks
from vdvae.settings.block_strings import Widths, parse_encoder_blocks
from vdvae.settings.checks import HparamsError, check_number, check_settings, nearest
from vdvae.settings.table import CHANGEABLE, GROUPS, STABLE, Settings

_PACKAGE = Path(__file__).resolve().parents[1]
# pyproject.toml puts the sets into the package that it builds; in a clone they lie beside the package.
HPS_FOLDER = _PACKAGE / "hps" if (_PACKAGE / "hps").is_dir() else _PACKAGE.parent / "hps"


@dataclass(frozen=True)
class Hparams(Settings):
    """The settings of a run, checked: each alone, and all together."""

    def __post_init__(self):
        for item in fields(self):
            check_number(item.name, getattr(self, item.name), item.metadata["minimum"])
            if item.name.endswith(("_dir", "_root", "_path")) and getattr(self, item.name):
                object.__setattr__(self, item.name, os.path.expanduser(getattr(self, item.name)))
        check_settings(self)
        for name in ("enc_blocks", "dec_blocks"):
            if getattr(self, name) is None:
                raise HparamsError(f"{name} is needed: give --{name}, or --hps with one of {', '.join(available_sets())}")
        size = self.image_size or self.dataset_spec.image_size
        if size is None:
            raise HparamsError(f"dataset {self.dataset} has images of any size: give --image_size")
        object.__setattr__(self, "image_size", size)
        self._build_blocks(size)
        if self.exact_levels is None:
            object.__setattr__(self, "exact_levels", not self.dataset_spec.published)
        _check_first_resolution(self.enc_blocks, size)
        check_architecture(self.enc_blocks, self.dec_blocks, self.widths, size, self.bottleneck_multiple)

    def _build_blocks(self, size: int) -> None:
        """Put block strings in the place of `auto`; what is saved are the strings, without `blocks`."""
        automatic = [name for name in ("enc_blocks", "dec_blocks") if getattr(self, name) == "auto"]
        if bool(automatic) != bool(self.blocks):
            raise HparamsError("--blocks says how many --enc_blocks auto and --dec_blocks auto make: give all or none of them")
        for name in automatic:
            build = auto_encoder_blocks if name == "enc_blocks" else auto_decoder_blocks
            object.__setattr__(self, name, build(size, self.blocks))
        object.__setattr__(self, "blocks", None)

    @property
    def run_folder(self) -> Path:
        """The folder of the run's files."""
        return Path(self.save_dir) / self.desc

    @property
    def dataset_spec(self) -> DatasetSpec:
        """The facts of the data set, with what the settings say instead.

        A folder whose images nobody has looked at counts as RGB in 8 bits, mid grey being 0 and a quarter of the range 1.
        """
        spec = DATASETS[self.dataset]
        bits = self.bits or spec.bits or 8
        finer = 1 if spec.bits else (2**bits - 1) / 255  # grey levels in one of 8 bits
        shift = spec.shift * finer if self.pixel_mean is None else -self.pixel_mean
        scale = spec.scale / finer if self.pixel_std is None else 1 / self.pixel_std
        binarize = self.binarize if self.likelihood == "bernoulli" else None
        channels = self.channels or spec.channels or 3
        return replace(spec, channels=channels, bits=bits, shift=shift, scale=scale, binarize=binarize)

    @property
    def shown_channels(self) -> list[int]:
        """The channels that sheets and PNG files show; none: those that data/image_file.py chooses."""
        return [int(channel) for channel in self.show_channels.split(",") if channel]

    @property
    def widths(self) -> Widths:
        """Channels by resolution."""
        return Widths(self.width, self.custom_width_str)

    @property
    def posterior_scale(self) -> Parameterization:
        """The parameterization of the posteriors' scales."""
        return parse_parameterization(self.posterior_sigma_param or self.sigma_param)

    @property
    def prior_scale(self) -> Parameterization:
        """The parameterization of the priors' scales."""
        if self.prior_const1:
            return Constant(1.0)
        return parse_parameterization(self.prior_sigma_param or self.sigma_param)

    @property
    def changes(self) -> dict[str, float]:
        """The settings that --change names, with their new values; raises HparamsError for one that cannot change."""
        return dict(map(_change, filter(None, self.change.split(","))))


def load_hparams(argv: list[str]) -> Hparams:
    """Read a command line such as `["--hps", "cifar10", "--sigma_param", "explin"]`.

    Defaults, then the sets of --hps from left to right, then the flags, then --change. Raises HparamsError (a ValueError)
    for an unknown flag, set or key, a value of the wrong type or out of range, and block strings that do not fit together.
    """
    flags = vars(_parser().parse_args([_as_switch(argument) for argument in argv]))
    flags = _with_stable_scales(flags) if flags.pop("stable", False) else flags
    values = {}
    for name in filter(None, (part.strip() for part in flags.get("hps", "").split(","))):
        values.update(read_set(name))
    try:
        hparams = Hparams(**{**values, **flags})
        return replace(hparams, **hparams.changes)
    except HparamsError:
        raise
    except ValueError as error:
        raise HparamsError(str(error)) from error


def _with_stable_scales(flags: dict) -> dict:
    given = next((name for name in STABLE if name in flags), None)
    if given:
        raise HparamsError(f"--stable chooses the scales of the latents: leave out --{given} or --stable")
    return {**flags, **STABLE}


def _check_first_resolution(enc_blocks: str, image_size: int) -> None:
    first = parse_encoder_blocks(enc_blocks)[0].resolution
    if first != image_size:
        sizes = {name: _image_size(read_set(name)) for name in available_sets()}
        fitting = ", ".join(name for name, size in sizes.items() if size == image_size)
        instead = f"sets for {image_size}: {fitting}" if fitting else f"there are sets for {sorted(set(sizes.values()))}"
        raise HparamsError(f"image_size is {image_size}, but enc_blocks begin at {first}; {instead}; or for any size --enc_blocks "
                           "auto --dec_blocks auto --blocks N")


def _image_size(values: dict) -> int:
    return values.get("image_size") or DATASETS[values["dataset"]].image_size


def available_sets() -> list[str]:
    """Names of the sets that come with the package."""
    return sorted(path.stem for path in HPS_FOLDER.glob("*.toml"))


def read_set(name: str) -> dict:
    """Values of one set: a name from hps/ or a path that ends in .toml; raises HparamsError that names what is wrong."""
    path = Path(name) if name.endswith(".toml") else HPS_FOLDER / f"{name}.toml"
    if not path.is_file():
        hint = nearest(name, available_sets())
        raise HparamsError(f"--hps {name!r} is not there{hint}; sets: {', '.join(available_sets())}; or a path to a .toml")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise HparamsError(f"{path}: not UTF-8, which TOML is in: save the file as UTF-8 ({error.reason})") from error
    except tomllib.TOMLDecodeError as error:
        raise HparamsError(f"{path}: not TOML: {error}") from error
    return {key: _typed(key, value, path) for key, value in values.items()}


def _typed(key: str, value, path: Path):
    by_name = {item.name: item for item in fields(Hparams) if item.name != "hps"}
    if key not in by_name:
        raise HparamsError(f"{path}: unknown key {key!r}{nearest(key, by_name)}")
    kind = _kind(by_name[key].type)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise HparamsError(f"{path}: {key} = {value!r} must be of type {kind.__name__}")
    return value


def _change(item: str) -> tuple[str, float]:
    """`lr=1e-4` as a name and a number."""
    name, _, value = item.partition("=")
    if name not in CHANGEABLE:
        raise HparamsError(f"--change {item}: {name!r} cannot change in a saved run{nearest(name, CHANGEABLE)}; "
                           f"allowed: {', '.join(CHANGEABLE)}")
    try:
        return name, float(value)
    except ValueError:
        raise HparamsError(f"--change {item}: {value!r} is no number; write {name}=NUMBER") from None


def _as_switch(argument: str) -> str:
    """`--prior_const1=true` as `--prior_const1`, `--prior_const1=false` as `--no-prior_const1`; others stay."""
    flag, _, value = argument.partition("=")
    if flag not in {f"--{item.name}" for item in fields(Hparams) if _kind(item.type) is bool}:
        return argument
    return {"true": flag, "false": flag.replace("--", "--no-", 1)}.get(value.lower(), argument)


def _kind(annotation) -> type:
    """The type of a setting's values, without the None that some may take."""
    if isinstance(annotation, UnionType):
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process, and suggests the nearest flag."""

    def error(self, message: str):
        raise HparamsError(message)

    def parse_args(self, argv):
        known, unknown = self.parse_known_args(argv)
        if unknown:
            flags = [option for action in self._actions for option in action.option_strings]
            raise HparamsError(f"unknown argument {unknown[0]!r}{nearest(unknown[0], flags)}; --help lists them all")
        return known


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="train.py", description="Train a VDVAE, or score one with --test_eval.",
                     argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = parser
    for item in fields(Hparams):
        group = parser.add_argument_group(GROUPS[item.name]) if item.name in GROUPS else group
        if item.name == "sigma_param":
            group.add_argument("--stable", action="store_true", help="scales that bear higher learning rates: as --sigma_param explin "
                               "--prior_const1, whatever the sets say")
        names = ["--hps", "--hparam_sets"] if item.name == "hps" else [f"--{item.name}"]
        meaning = f"{item.metadata['meaning']} (default: {item.default})".replace("%", "%%")
        if item.name == "resume":
            group.add_argument("--resume", nargs="?", const="must", metavar="X", help=meaning)
        elif _kind(item.type) is bool:
            group.add_argument(*names, action=argparse.BooleanOptionalAction, help=meaning)
        else:
            group.add_argument(*names, dest=item.name, type=_kind(item.type), metavar="X", help=meaning)
    return parser
