"""The table of settings: default, meaning, effect and smallest value of each. It imports no torch."""

from dataclasses import dataclass, field, fields
from enum import Enum

from vdvae.data.spec import DATASETS


class Effect(Enum):
    """What a setting changes."""

    MODEL = "the model's layers and distributions"
    DATA = "the images"
    TRAINING = "what an update computes"
    LENGTH = "how many updates a run makes"
    ROUNDING = "only rounding, the order of the noise, speed and memory"
    START = "what a new run starts from"
    NOTHING = "nothing that is computed: logs, files, processes"


MODEL, DATA, TRAINING, LENGTH, ROUNDING, START, NOTHING = Effect
GROUPS = {  # of --help, by the first setting of each
    "sigma_param": "The latents' scales",
    "enc_blocks": "The model",
    "dataset": "The data",
    "n_batch": "Training",
    "precision": "Speed and memory",
    "desc": "Logs, evaluation, files",
    "restore_path": "What to start from",
}
# What --change sets in a saved run: numbers that each update takes as they are.
CHANGEABLE = ("lr", "warmup_iters", "wd", "adam_beta1", "adam_beta2", "ema_rate", "grad_clip", "skip_threshold")
# What --stable sets; experiments/EXPERIMENTS.md has the runs that decided it.
STABLE = {"sigma_param": "explin", "posterior_sigma_param": None, "prior_sigma_param": None, "prior_const1": True,
          "posterior": "absolute"}
SHEET_TEMPERATURES = (1.0, 0.9, 0.8, 0.7)  # of the rows of free samples on a sample sheet, from the top


def setting(default, meaning: str, effect: Effect, minimum: float | None = None):
    """A field of Settings; --help shows the meaning, `minimum` is the smallest value allowed."""
    return field(default=default, metadata={"meaning": meaning, "effect": effect, "minimum": minimum})


@dataclass(frozen=True)
class Settings:
    """Every setting of a run; the flags of the command line have the same names."""

    sigma_param: str = setting("vanilla", "scale of all latents: vanilla, exp, explin, upbounded1, bounded0.1_1, ...", MODEL)
    posterior_sigma_param: str | None = setting(None, "scale of the posteriors alone; none: sigma_param", MODEL)
    prior_sigma_param: str | None = setting(None, "scale of the priors alone; none: sigma_param", MODEL)
    prior_const1: bool = setting(False, "fix the scale of every prior to 1", MODEL)
    posterior: str = setting("absolute", "absolute, or residual: posteriors in units of their priors, as in NVAE", MODEL)

    enc_blocks: str | None = setting(None, "encoder blocks, for example 32x11,32d2,16x6, or auto; needed", MODEL)
    dec_blocks: str | None = setting(None, "decoder blocks, for example 1x1,4m1,4x2, or auto; needed", MODEL)
    blocks: int | None = setting(None, "with auto: how many decoder blocks", MODEL, 1)
    width: int = setting(512, "channels of the features", MODEL, 1)
    custom_width_str: str = setting("", "channels at single resolutions, for example 512:32,256:64", MODEL)
    zdim: int = setting(16, "channels of each latent", MODEL, 1)
    bottleneck_multiple: float = setting(0.25, "middle channels of a block as a share of its width", MODEL, 0)
    no_bias_above: int = setting(64, "largest decoder resolution with a learned initial state", MODEL, 0)
    likelihood: str = setting("logistic_mixture", "of the pixels: logistic_mixture, normal or bernoulli", MODEL)
    num_mixtures: int = setting(10, "logistics in the mixture of each pixel", MODEL, 1)
    pixel_sigma_param: str = setting(
        "bounded", "scale of normal pixels: bounded (from a grey level to the range), global (one for all), exp, ...", MODEL)
    pixel_loc: str = setting("sigmoid", "mean of normal pixels: sigmoid of the network's output, or identity", MODEL)
    exact_levels: bool | None = setting(
        None, "grey levels whose probabilities sum to 1, samples rounded to the nearest; none: unless the set is published", MODEL)

    dataset: str = setting("cifar10", f"one of {', '.join(DATASETS)}", DATA)
    data_root: str = setting("./", "folder that holds the data set", NOTHING)
    image_size: int | None = setting(None, "height and width of the images; none: the data set's", DATA, 1)
    channels: int | None = setting(None, "channels of a pixel; none: those of the data set's images", DATA, 1)
    bits: int | None = setting(None, "bits of a channel, 16 at most; none: those of the data set's images", DATA, 1)
    pixel_mean: float | None = setting(None, "grey level that is the network's input 0; none: the data set's", DATA, 0)
    pixel_std: float | None = setting(None, "grey levels in a unit of the network's input; none: the data set's", DATA, 0)
    binarize: str = setting(
        "random", "with bernoulli, what is white: random, as likely as the pixel is bright, or threshold, above mid grey", DATA)
    num_workers: int | None = setting(
        None, "loader processes of each rank; none: 2 for image files, and on a GPU for arrays above 2 GB", NOTHING, 0)

    n_batch: int = setting(32, "images per rank and update", TRAINING, 1)
    lr: float = setting(1.5e-4, "learning rate after the warm-up", TRAINING, 0)
    warmup_iters: float = setting(0, "updates over which the learning rate rises linearly from 0", TRAINING, 0)
    wd: float = setting(0.0, "decoupled weight decay", TRAINING, 0)
    adam_beta1: float = setting(0.9, "AdamW's decay of the mean gradient", TRAINING, 0)
    adam_beta2: float = setting(0.9, "AdamW's decay of the squared gradient", TRAINING, 0)
    optimizer: str = setting("adamw", "adamw, or apex for NVIDIA apex's FusedAdam (the same update)", ROUNDING)
    spectral_reg: float = setting(
        0.0, "times the sum of the convolutions' largest singular values: added to the loss", TRAINING, 0)
    ema_rate: float = setting(0.999, "decay of the averaged weights", TRAINING, 0)
    max_consecutive_skips: int = setting(100, "stop a run that skips this many updates in a row; 0: never", LENGTH, 0)
    grad_clip: float = setting(200.0, "largest global gradient norm of an update", TRAINING, 0)
    skip_threshold: float = setting(400.0, "skip updates with a gradient norm not below this; -1: no limit", TRAINING, -1)
    num_epochs: int = setting(10000, "passes over the training images", LENGTH, 0)
    num_iters: int | None = setting(None, "stop after this many updates, skipped ones included; none: no limit", LENGTH, 0)
    seed: int = setting(0, "seed of weights, noise and data order", TRAINING, 0)
    device: str | None = setting(None, "cpu or cuda; none: cuda where there is one", ROUNDING)

    precision: str | None = setting(
        None, "convolutions in fp32, tf32 or bf16; none: bf16 where the device has it, else fp32", ROUNDING)
    compile: bool = setting(False, "compile the blocks with torch.compile, once for each shape", ROUNDING)
    cuda_graphs: bool = setting(False, "record the update once as two CUDA graphs and replay them", ROUNDING)
    deterministic: bool = setting(
        False, "on a GPU, kernels that add in a fixed order: the same bits each time, and after --resume", ROUNDING)
    checkpoint_blocks: bool = setting(
        False, "compute each block again in the backward pass: less memory, more time", ROUNDING)
    accumulate_steps: int = setting(1, "parts that a batch of n_batch is worked through in: less memory", ROUNDING, 1)
    compress_gradients: bool = setting(False, "send gradients between ranks in bf16", ROUNDING)
    plain: bool = setting(False, "all that makes training faster off, float32 throughout: what to compare with", ROUNDING)

    desc: str = setting("test", "name of the run: its folder inside save_dir", NOTHING)
    save_dir: str = setting("./saved_models", "folder of all runs", NOTHING)
    iters_per_print: int = setting(1000, "updates between train lines of the log", NOTHING, 1)
    iters_per_images: int = setting(10000, "updates between sample sheets", NOTHING, 1)
    iters_per_save: int = setting(10000, "updates between writes of latest-*", NOTHING, 1)
    iters_per_ckpt: int = setting(25000, "updates between writes of iter-N-*", NOTHING, 1)
    epochs_per_eval: int = setting(10, "epochs between evaluations on the validation images", NOTHING, 1)
    num_images_visualize: int = setting(8, "columns of a sample sheet", NOTHING, 1)
    num_variables_visualize: int = setting(6, "rows of partial reconstructions on a sample sheet", NOTHING, 0)
    num_temperatures_visualize: int = setting(3, "rows of free samples on a sample sheet, 4 at most", NOTHING, 0)
    show_channels: str = setting("", "channels on sheets and PNG files, for example 4,2,0; none: the first three of more than four", NOTHING)
    tensorboard: bool = setting(False, "write figures and sample sheets for TensorBoard, too, into the run's folder", NOTHING)
    port: int = setting(0, "port on which rank 0 meets the others under mpiexec; 0: a free one", NOTHING, 0)

    restore_path: str | None = setting(None, "weights (…-model.th)", START)
    restore_ema_path: str | None = setting(None, "averaged weights (…-model-ema.th); none: those of restore_path", START)
    restore_optimizer_path: str | None = setting(None, "optimizer state (…-opt.th)", START)
    resume: str | None = setting(None, "must: continue the run in save_dir/desc; auto: or begin it; alone: must", START)
    change: str = setting("", "with resume: new values in the saved run, such as lr=1e-4,wd=0.01", NOTHING)
    restore_log_path: str | None = setting(None, "log (…-log.jsonl): step, epoch and counters continue from it", START)
    test_at_end: bool = setting(False, "score the averaged weights on the test images when training ends", NOTHING)
    test_eval: bool = setting(False, "print the loss on the test images and stop", NOTHING)
    importance_samples: int | None = setting(
        None, "with test_eval: the importance-weighted bound of so many draws", NOTHING, 1)
    hps: str = setting("", "sets, comma-separated, later ones win: names from hps/ or paths of TOML files", NOTHING)


def settings_that_change(*effects: Effect) -> list[str]:
    """Names of the settings with one of these effects, in the order of the table."""
    return [item.name for item in fields(Settings) if item.metadata["effect"] in effects]
