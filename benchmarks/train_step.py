"""Cost of an update: ours plain, each switch alone, all on, the parameterizations, the original: python -m benchmarks.train_step"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import OperatorCount, Run, alternating_seconds, peak_bytes, peak_flops, ratios_to
from benchmarks.original_code import hyperparams, install_stand_ins
from vdvae.acceleration import memory_format, set_float32_precision, settled
from vdvae.compilation import compile_parts
from vdvae.distributed import World
from vdvae.ema import average_of
from vdvae.graphed_step import CudaGraph, GraphedStep
from vdvae.hparams import Hparams, load_hparams
from vdvae.optimizer import make_optimizer
from vdvae.preprocess import Batch, Preprocess
from vdvae.train_step import TrainStep
from vdvae.vae import VAE

PLAIN, ORIGINAL = "plain float32", "original"
SWITCHES = {  # by device: name to flags
    "cpu": {"bf16": ["--precision", "bf16"], "checkpoint_blocks": ["--plain", "--checkpoint_blocks"],
            "bf16, checkpoint_blocks": ["--precision", "bf16", "--checkpoint_blocks"],
            "accumulate_steps 2": ["--plain", "--accumulate_steps", "2"]},
    "cuda": {"tf32": ["--precision", "tf32"], "bf16": ["--precision", "bf16"],
             "cuda_graphs": ["--precision", "fp32", "--cuda_graphs"],
             "checkpoint_blocks": ["--plain", "--checkpoint_blocks"],
             "bf16, checkpoint_blocks": ["--precision", "bf16", "--checkpoint_blocks"],
             "accumulate_steps 2": ["--plain", "--accumulate_steps", "2"]},
}
ALL = {"cpu": ["--precision", "bf16"], "cuda": ["--precision", "bf16", "--cuda_graphs"]}
SHARED = ("dec_blocks", "enc_blocks", "width", "custom_width_str", "zdim", "num_mixtures", "bottleneck_multiple", "lr", "wd",
          "grad_clip", "skip_threshold", "ema_rate", "adam_beta1", "adam_beta2")  # flags of both
SCALES = {f"{flag}{' --prior_const1' if const else ''}": ["--sigma_param", flag, *(["--prior_const1"] if const else [])]
          for const in (False, True) for flag in ("vanilla", "upbounded1", "explin")}


@dataclass(frozen=True)
class Contestant:
    """An update of one model on one batch, the bytes it keeps between updates, and how its operators can be counted."""

    update: Run
    kept_bytes: int
    precision: str
    counts: bool = True  # compiled and recorded work is not dispatched


def ours(hparams: Hparams, images: Tensor) -> Contestant:
    """Our update as train.py makes it for these hyper-parameters."""
    device = images.device
    hparams = settled(hparams, device)
    torch.manual_seed(0)
    vae = VAE(hparams).to(device)
    average = average_of(vae)
    optimizer = make_optimizer(hparams, vae.parameters())
    if hparams.compile:
        compile_parts(vae)
    step = TrainStep(vae, average, optimizer, hparams, World(device=device))
    call = GraphedStep(step, CudaGraph) if hparams.cuda_graphs else step
    batch = Preprocess(hparams.dataset_spec, memory_format(hparams))(images)

    def update() -> None:
        set_float32_precision(hparams)
        call(*batch, hparams.lr)

    update()
    kept = [*vae.parameters(), *average.parameters(), *(t for state in optimizer.state.values() for t in state.values())]
    return Contestant(update, sum(tensor.nbytes for tensor in kept), hparams.precision,
                      not (hparams.compile or hparams.cuda_graphs))


def original(checkout: Path, hparams: Hparams, batch: Batch) -> Contestant:
    """The original's training_step for the same model, with PyTorch's fused AdamW for apex's."""
    device = batch.input.device.type
    sys.path.insert(0, str(checkout))
    install_stand_ins(device)
    flags = [word for name in SHARED for word in (f"--{name}", str(getattr(hparams, name)))]
    values = hyperparams(flags, hparams.image_size)
    model, average = (import_module("vae").VAE(values).to(device) for _ in range(2))
    average.requires_grad_(False)
    values.update(ema_rate=torch.as_tensor(values.ema_rate, device=device))
    optimizer = torch.optim.AdamW(model.parameters(), values.lr, (values.adam_beta1, values.adam_beta2),
                                  weight_decay=values.wd, fused=True)
    step = import_module("train").training_step
    channels_last = batch.input.permute(0, 2, 3, 1).contiguous()

    def update() -> None:
        torch.backends.cudnn.allow_tf32 = True  # PyTorch's default, which the original leaves as it is
        step(values, channels_last, batch.target, model, average, optimizer, 0)

    update()
    kept = [*model.parameters(), *average.parameters(), *(t for state in optimizer.state.values() for t in state.values())]
    return Contestant(update, sum(tensor.nbytes for tensor in kept), "tf32" if device == "cuda" else "fp32")


def flops_per_image(hparams: Hparams) -> int:
    """Floating-point operations of one image, forward and backward, as PyTorch counts them."""
    hparams = replace(hparams, n_batch=1, precision="fp32", accumulate_steps=1, checkpoint_blocks=False)
    vae = VAE(hparams)
    batch = Preprocess(hparams.dataset_spec)(torch.zeros(1, hparams.image_size, hparams.image_size, 3, dtype=torch.uint8))
    with FlopCounterMode(display=False) as counter:
        vae(*batch).negative_elbo.backward()
    return counter.get_total_flops()


def table(contestants: dict[str, Contestant], reference: str, rounds: int, device: str, n_batch: int, flops: int,
          peaks: dict[str, float]) -> None:
    """Measures by turns and prints a row for each."""
    runs = {name: contestant.update for name, contestant in contestants.items()}
    for run in runs.values():
        run()
    times = alternating_seconds(runs, rounds, device)
    ratios = ratios_to(reference, times)
    print(f"\n| update | images/s | speed against {reference} | peak memory, GB | share of measured peak | operators | pointwise |")
    print("|---|---|---|---|---|---|---|")
    for name, contestant in contestants.items():
        median = statistics.median(times[name])
        memory = contestant.kept_bytes + peak_bytes(contestant.update, device)
        share = flops * n_batch / median / peaks[contestant.precision]
        with OperatorCount() if contestant.counts else nullcontext() as count:
            contestant.update()
        counted = f"{count.all:,} | {count.pointwise:,}" if contestant.counts else "– | –"
        print(f"| {name} | {n_batch / median:.2f} | {1 / ratios[name]:.2f} | {memory / 1e9:.2f} | {share:.0%} ({contestant.precision}) | "
              f"{counted} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--hps", default="cifar10", help="hyper-parameter set")
    parser.add_argument("--n_batch", type=int, nargs="+", help="images of an update; default: 8 on a CPU, 16 and 128 on a GPU")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, each of every update")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--upstream", type=Path, metavar="CHECKOUT", help="a checkout of openai/vdvae, measured too")
    parser.add_argument("--compile", action="store_true", help="compiled updates too; compiling takes minutes on a CPU")
    parser.add_argument("--only", choices=["switches", "scales"], help="one of the two tables")
    options = parser.parse_args(arguments)
    device = options.device
    bf16, fp32 = (peak_flops(dtype, device) for dtype in (torch.bfloat16, torch.float32))
    torch.backends.cuda.matmul.allow_tf32 = True
    peaks = {"bf16": bf16, "fp32": fp32, "tf32": peak_flops(torch.float32, device)}
    flops = flops_per_image(load_hparams(["--hps", options.hps]))
    print(f"{options.hps} on {torch.cuda.get_device_name() if device == 'cuda' else 'a CPU'}, {torch.get_num_threads()} thread(s), PyTorch "
          f"{torch.__version__}; {flops / 1e9:.1f} GFLOP per image; matrix products reach "
          + ", ".join(f"{peak / 1e12:.2f} TFLOP/s in {name}" for name, peak in peaks.items() if device == "cuda" or name != "tf32"))
    for n_batch in options.n_batch or ([16, 128] if device == "cuda" else [8]):
        measure(options, n_batch, flops, peaks)


def measure(options: argparse.Namespace, n_batch: int, flops: int, peaks: dict[str, float]) -> None:
    """Prints the tables for one batch size."""
    device = options.device

    def made(*flags: str) -> Contestant:
        return ours(load_hparams(["--hps", options.hps, "--n_batch", str(n_batch), *flags]), images)

    hparams = load_hparams(["--hps", options.hps])
    images = torch.randint(0, 256, (n_batch, hparams.image_size, hparams.image_size, 3), dtype=torch.uint8).to(device)
    print(f"\nBatch {n_batch}")
    if options.only != "scales":
        switches = {name: flags for name, flags in SWITCHES[device].items() if n_batch > 1 or "--accumulate_steps" not in flags}
        contestants = {PLAIN: made("--plain")} | {name: made(*flags) for name, flags in switches.items()}
        if options.compile:
            contestants |= {"compile": made("--precision", "fp32", "--compile"), "all on": made(*ALL[device], "--compile")}
        if options.upstream:
            batch = Preprocess(hparams.dataset_spec)(images)
            contestants[ORIGINAL] = original(options.upstream.resolve(), hparams, batch)
        table(contestants, ORIGINAL if options.upstream else PLAIN, options.rounds, device, n_batch, flops, peaks)
    if options.only != "switches":
        contestants = {name: made(*flags) for name, flags in SCALES.items()}
        table(contestants, "vanilla", options.rounds, device, n_batch, flops, peaks)


if __name__ == "__main__":
    main()
