"""Hyper-parameters: their defaults and meaning, the sets in hps/, the command line that overrides them."""

import argparse
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import get_args

from stable_params import Constant, Parameterization, parse_parameterization
from vdvae.settings.architecture_checks import check_architecture
from vdvae.settings.block_strings import Widths
from vdvae.data.spec import DATASETS, DatasetSpec
from vdvae.settings.checks import HparamsError, check_minimum, check_settings, nearest

HPS_FOLDER = Path(__file__).resolve().parents[2] / "hps"


def setting(default, meaning: str, minimum: float | None = None):
    """A hyper-parameter's default, its meaning (shown by --help) and the smallest value it may take."""
    return field(default=default, metadata={"meaning": meaning, "minimum": minimum})


@dataclass(frozen=True)
class Hparams:
    """Every hyper-parameter of a run, checked; the flags of the command line have the same names."""

    # The latents' scales
    sigma_param: str = setting("vanilla", "scale of all latents: vanilla, exp, explin, upbounded1, bounded0.1_1, ...")
    posterior_sigma_param: str | None = setting(None, "scale of the posteriors alone; none: sigma_param")
    prior_sigma_param: str | None = setting(None, "scale of the priors alone; none: sigma_param")
    prior_const1: bool = setting(False, "fix the scale of every prior to 1")
    posterior: str = setting("absolute", "absolute, or residual: posteriors in units of their priors, as in NVAE")
    # The model
    enc_blocks: str | None = setting(None, "encoder blocks, for example 32x11,32d2,16x6; needed")
    dec_blocks: str | None = setting(None, "decoder blocks, for example 1x1,4m1,4x2; needed")
    width: int = setting(512, "channels of the features", 1)
    custom_width_str: str = setting("", "channels at single resolutions, for example 512:32,256:64")
    zdim: int = setting(16, "channels of each latent", 1)
    bottleneck_multiple: float = setting(0.25, "middle channels of a block as a share of its width", 0)
    no_bias_above: int = setting(64, "largest decoder resolution with a learned initial state", 0)
    num_mixtures: int = setting(10, "logistics in the mixture of each pixel", 1)
    # The data
    dataset: str = setting("cifar10", f"one of {', '.join(DATASETS)}")
    data_root: str = setting("./", "folder that holds the data set")
    image_size: int | None = setting(None, "height and width of the images; none: the data set's", 1)
    num_workers: int | None = setting(None, "loader processes of each rank; none: 2 for image files, and on a GPU for arrays above 2 GB", 0)
    # Training
    n_batch: int = setting(32, "images per rank and update", 1)
    lr: float = setting(1.5e-4, "learning rate after the warm-up", 0)
    warmup_iters: float = setting(0, "updates over which the learning rate rises linearly from 0", 0)
    wd: float = setting(0.0, "decoupled weight decay", 0)
    adam_beta1: float = setting(0.9, "AdamW's decay of the mean gradient", 0)
    adam_beta2: float = setting(0.9, "AdamW's decay of the squared gradient", 0)
    optimizer: str = setting("adamw", "adamw, or apex for NVIDIA apex's FusedAdam (the same update)")
    spectral_reg: float = setting(0.0, "times the sum of the convolutions' largest singular values: added to the loss", 0)
    ema_rate: float = setting(0.999, "decay of the averaged weights", 0)
    max_consecutive_skips: int = setting(100, "stop a run that skips this many updates in a row; 0: never", 0)
    grad_clip: float = setting(200.0, "largest global gradient norm of an update", 0)
    skip_threshold: float = setting(400.0, "skip updates with a gradient norm not below this; -1: no limit", -1)
    num_epochs: int = setting(10000, "passes over the training images", 0)
    num_iters: int | None = setting(None, "stop after this many updates, skipped ones included; none: no limit", 0)
    seed: int = setting(0, "seed of weights, noise and data order", 0)
    device: str | None = setting(None, "cpu or cuda; none: cuda where there is one")
    # Speed and memory; none of it changes what is computed beyond rounding and the order of the noise
    precision: str | None = setting(None, "convolutions in fp32, tf32 or bf16; none: bf16 where the device has it, else fp32")
    compile: bool = setting(False, "compile the blocks with torch.compile, once for each shape")
    cuda_graphs: bool = setting(False, "record the update once as a CUDA graph and replay it; one rank")
    checkpoint_blocks: bool = setting(False, "compute each block again in the backward pass: less memory, more time")
    accumulate_steps: int = setting(1, "parts that a batch of n_batch is worked through in: less memory", 1)
    compress_gradients: bool = setting(False, "send gradients between ranks in bf16")
    plain: bool = setting(False, "all that makes training faster off, float32 throughout: what to compare with")
    # Logs, evaluation, files
    desc: str = setting("test", "name of the run: its folder inside save_dir")
    save_dir: str = setting("./saved_models", "folder of all runs")
    iters_per_print: int = setting(1000, "updates between train lines of the log", 1)
    iters_per_images: int = setting(10000, "updates between sample sheets", 1)
    iters_per_save: int = setting(10000, "updates between writes of latest-*", 1)
    iters_per_ckpt: int = setting(25000, "updates between writes of iter-N-*", 1)
    epochs_per_eval: int = setting(10, "epochs between evaluations on the validation images", 1)
    num_images_visualize: int = setting(8, "columns of a sample sheet", 1)
    num_variables_visualize: int = setting(6, "rows of partial reconstructions on a sample sheet", 0)
    num_temperatures_visualize: int = setting(3, "rows of free samples on a sample sheet, 4 at most", 0)
    tensorboard: bool = setting(False, "write figures and sample sheets for TensorBoard, too, into the run's folder")
    port: int = setting(0, "port on which rank 0 meets the others under mpiexec; 0: a free one", 0)
    # What to start from
    restore_path: str | None = setting(None, "weights (…-model.th)")
    restore_ema_path: str | None = setting(None, "averaged weights (…-model-ema.th); none: those of restore_path")
    restore_optimizer_path: str | None = setting(None, "optimizer state (…-opt.th)")
    resume: str | None = setting(None, "must: go on with the run in save_dir/desc; auto: or begin it; alone: must")
    restore_log_path: str | None = setting(None, "log (…-log.jsonl): step, epoch and counters go on from it")
    test_at_end: bool = setting(False, "score the averaged weights on the test images when training ends")
    test_eval: bool = setting(False, "print the loss on the test images and stop")
    importance_samples: int | None = setting(None, "with test_eval: the importance-weighted bound of so many draws", 1)
    hps: str = setting("", "sets, comma-separated, later ones win: names from hps/ or paths of TOML files")

    def __post_init__(self):
        for item in fields(self):
            check_minimum(item.name, getattr(self, item.name), item.metadata["minimum"])
        check_settings(self)
        self._check_blocks_given()
        if self.image_size is None:
            object.__setattr__(self, "image_size", self._spec_size())
        check_architecture(self.enc_blocks, self.dec_blocks, self.widths, self.image_size, self.bottleneck_multiple)

    def _check_blocks_given(self) -> None:
        for name in ("enc_blocks", "dec_blocks"):
            if getattr(self, name) is None:
                raise HparamsError(f"{name} is needed: give --{name}, or --hps with one of {', '.join(available_sets())}")

    def _spec_size(self) -> int:
        if self.dataset_spec.image_size is None:
            raise HparamsError(f"dataset {self.dataset} has images of any size: say --image_size")
        return self.dataset_spec.image_size

    @property
    def dataset_spec(self) -> DatasetSpec:
        """Input range, target depth and native size of the data set."""
        return DATASETS[self.dataset]

    @property
    def widths(self) -> Widths:
        """Channels by resolution."""
        return Widths(self.width, self.custom_width_str)

    @property
    def posterior_scale(self) -> Parameterization:
        """What turns the posteriors' raw outputs into scales."""
        return parse_parameterization(self.posterior_sigma_param or self.sigma_param)

    @property
    def prior_scale(self) -> Parameterization:
        """What turns the priors' raw outputs into scales."""
        if self.prior_const1:
            return Constant(1.0)
        return parse_parameterization(self.prior_sigma_param or self.sigma_param)


def load_hparams(argv: list[str]) -> Hparams:
    """Read a command line such as `["--hps", "cifar10", "--sigma_param", "explin"]`.

    Defaults, then the sets of --hps from left to right, then the flags. Raises HparamsError (a ValueError) for an
    unknown flag, set or key, a value of the wrong type or out of range, and block strings that do not fit together.
    """
    flags = vars(_parser().parse_args(argv))
    values = {}
    for name in filter(None, (part.strip() for part in flags.get("hps", "").split(","))):
        values.update(read_set(name))
    try:
        return Hparams(**{**values, **flags})
    except HparamsError:
        raise
    except ValueError as error:
        raise HparamsError(str(error)) from error


def available_sets() -> list[str]:
    """Names of the sets in hps/."""
    return sorted(path.stem for path in HPS_FOLDER.glob("*.toml"))


def read_set(name: str) -> dict:
    """Values of one set: a name from hps/ or a path that ends in .toml; raises HparamsError that names what is wrong."""
    path = Path(name) if name.endswith(".toml") else HPS_FOLDER / f"{name}.toml"
    if not path.is_file():
        hint = nearest(name, available_sets())
        raise HparamsError(f"--hps {name!r} is not there{hint}; sets: {', '.join(available_sets())}; or a path to a .toml")
    try:
        values = tomllib.loads(path.read_text())
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
    for item in fields(Hparams):
        names = ["--hps", "--hparam_sets"] if item.name == "hps" else [f"--{item.name}"]
        meaning = f"{item.metadata['meaning']} (default: {item.default})".replace("%", "%%")
        if item.name == "resume":
            parser.add_argument("--resume", nargs="?", const="must", metavar="X", help=meaning)
        elif _kind(item.type) is bool:
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, help=meaning)
        else:
            parser.add_argument(*names, dest=item.name, type=_kind(item.type), metavar="X", help=meaning)
    return parser
