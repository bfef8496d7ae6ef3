"""Time and memory of whole training updates: python -m benchmarks.cost.train_step

Compares our plain update with each switch, the parameterizations with each other, and ours with the original's.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.cost.measuring import OperatorCount, Run, alternating_seconds, peak_bytes, peak_flops, ratios_to
from benchmarks.cost.original_code import hyperparams, install_stand_ins
from benchmarks.cost.work import count_work
from vdvae.step.acceleration import compile_parts, for_device, memory_format
from vdvae.ranks.distributed import World
from vdvae.step.graphed_step import WARM_UP, CudaGraph, GraphedStep
from vdvae.records.run_log import LABELLED
from vdvae.settings.hparams import Hparams, load_hparams
from vdvae.settings.table import Effect, settings_that_change
from vdvae.step.optimizer import make_optimizer
from vdvae.data.preprocess import Batch, Preprocess
from vdvae.step.train_step import TrainStep, average_of
from vdvae.model.vae import VAE

PLAIN, ORIGINAL = "plain float32", "original"
ON_CUDA = {"tf32": ["--precision", "tf32"], "cuda_graphs": ["--precision", "fp32", "--cuda_graphs"]}  # name to flags
MEMORY = {"bf16": ["--precision", "bf16"], "checkpoint_blocks": ["--plain", "--checkpoint_blocks"],
          "bf16, checkpoint_blocks": ["--precision", "bf16", "--checkpoint_blocks"]}
PARTS = {"accumulate_steps 2": ["--plain", "--accumulate_steps", "2"]}
COMPILED = {"compile": ["--precision", "fp32", "--compile"]}
ALL = {"cpu": ["--precision", "bf16", "--compile"], "cuda": ["--precision", "bf16", "--compile", "--cuda_graphs"]}
OURS = (*LABELLED, "exact_levels")  # settings that the original does not have
SHARED = [name for name in settings_that_change(Effect.MODEL, Effect.TRAINING) if name not in OURS]
SCALES = {f"{flag}{' --prior_const1' if const else ''}": ["--sigma_param", flag, *(["--prior_const1"] if const else [])]
          for const in (False, True) for flag in ("vanilla", "upbounded1", "explin")}


@dataclass(frozen=True)
class Contestant:
    """An update of one model on one batch, and the memory that it needs."""

    update: Run
    images: int  # of one update
    kept_bytes: int  # weights, averages, optimizer
    peak_bytes: int  # kept_bytes and the most that an update holds beside them
    precision: str
    counts: bool = True  # False for compiled and recorded work, whose operators are not dispatched


def ours(hparams: Hparams, images: Tensor) -> Contestant:
    """Our update as train.py makes it for these hyper-parameters."""
    device = images.device
    hparams = for_device(hparams, device)
    torch.manual_seed(0)
    vae = VAE(hparams).to(device)
    average = average_of(vae)
    optimizer = make_optimizer(hparams, vae.parameters())
    if hparams.compile:
        compile_parts(vae)
    step = TrainStep(vae, average, optimizer, hparams, World(device=device))
    call = GraphedStep(step, CudaGraph) if hparams.cuda_graphs else step
    batch = Preprocess(hparams.dataset_spec, memory_format(hparams))(images)
    update = partial(call, *batch, hparams.lr)
    update()
    needs = memory(update, vae, average, optimizer, WARM_UP if hparams.cuda_graphs else 1)  # a replayed update allocates nothing
    return Contestant(update, len(images), *needs, hparams.precision, counts=not (hparams.compile or hparams.cuda_graphs))


def memory(update: Run, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer,
           updates: int = 1) -> tuple[int, int]:
    """kept_bytes and peak_bytes of a Contestant, the peak over this many updates."""
    moments = [tensor for state in optimizer.state.values() for tensor in state.values()]
    kept = sum(tensor.nbytes for tensor in (*model.parameters(), *average.parameters(), *moments))
    optimizer.zero_grad()  # gradients belong to the peak of the next update, which makes them anew
    device = next(model.parameters()).device.type
    return kept, kept + peak_bytes(lambda: [update() for _ in range(updates)], device)


def original(checkout: Path, hparams: Hparams, batch: Batch) -> Contestant:
    """The original's training_step for the same model, with PyTorch's fused AdamW in place of apex's."""
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
    needs = memory(update, model, average, optimizer)
    return Contestant(update, len(batch.input), *needs, "tf32" if device == "cuda" else "fp32")


def table(contestants: dict[str, Contestant], reference: str, rounds: int, device: str, flops: int) -> None:
    """Measures the updates in turn and prints a row for each; `flops` are those of one update."""
    runs = {name: contestant.update for name, contestant in contestants.items()}
    for run in runs.values():
        run()
    times = alternating_seconds(runs, rounds, device)
    ratios = ratios_to(reference, times)
    print(f"\n| update | images/s | speed against {reference} | peak memory, GB | against {reference} | share of "
          "measured peak | operators | pointwise |\n|---|---|---|---|---|---|---|---|")
    for name, contestant in contestants.items():
        median, memory = statistics.median(times[name]), contestant.peak_bytes
        share = flops / median / peak_flops(contestant.precision, device)
        print(f"| {name} | {contestant.images / median:.2f} | {1 / ratios[name]:.2f} | {memory / 1e9:.2f} | "
              f"{memory / contestants[reference].peak_bytes:.2f} | {share:.0%} ({contestant.precision}) | "
              f"{operators(contestant)} |", flush=True)
    precisions = sorted({contestant.precision for contestant in contestants.values()})
    peaks = ", ".join(f"{peak_flops(each, device) / 1e12:.3g} TFLOP/s in {each}" for each in precisions)
    print(f"\nMatrix products reach {peaks}.", flush=True)


def operators(contestant: Contestant) -> str:
    """Two cells of a row: how many operators an update dispatches, and how many of them are pointwise."""
    if not contestant.counts:
        return "– | –"
    with OperatorCount() as count:
        contestant.update()
    return f"{count.all:,} | {count.pointwise:,}"


def memory_table(switches: dict[str, list[str]], made: Callable[..., Contestant]) -> None:
    """Prints the memory of an update under each switch, with one model at a time in memory."""
    print("\n| update | weights, averages, optimizer, GB | at the peak of an update, GB |\n|---|---|---|")
    for name, flags in switches.items():
        contestant = made(*flags)
        print(f"| {name} | {contestant.kept_bytes / 1e9:.2f} | {contestant.peak_bytes / 1e9:.2f} |", flush=True)
        del contestant  # before the next model is made


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    options = parsed(arguments)
    device, work = options.device, count_work(options.hps)
    machine = torch.cuda.get_device_name() if device == "cuda" else "a CPU"
    print(f"{options.hps} on {machine}, {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}; "
          f"{(work.forward + work.backward) / 1e9:.1f} GFLOP per image")
    for n_batch in options.n_batch or ([16, 128] if device == "cuda" else [8]):
        measure(options, n_batch)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.train_step", description=__doc__)
    parser.add_argument("--hps", default="cifar10", help="hyper-parameter set")
    parser.add_argument("--n_batch", type=int, nargs="+", help="images of an update; default: 8 on a CPU, 16 and 128 on a GPU")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; each runs every update once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--upstream", type=Path, metavar="CHECKOUT", help="a checkout of openai/vdvae, to measure the original too")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction,
                        help="measure compiled updates too; default: on a GPU only, as compiling takes minutes on a CPU")
    parser.add_argument("--only", choices=["switches", "scales", "memory"],
                        help="print one table; memory keeps one model at a time in memory, for large sets")
    options = parser.parse_args(arguments)
    if options.upstream and not (options.upstream / "vae.py").is_file():
        parser.error(f"--upstream {options.upstream}: no vae.py there; it must be a checkout of openai/vdvae")
    options.compile = options.device == "cuda" if options.compile is None else options.compile
    return options


def measure(options: argparse.Namespace, n_batch: int) -> None:
    """Prints the tables for one batch size."""
    device, hparams = options.device, load_hparams(["--hps", options.hps, "--n_batch", str(n_batch)])
    images = torch.randint(0, 256, (n_batch, hparams.image_size, hparams.image_size, 3), dtype=torch.uint8).to(device)

    def made(*flags: str) -> Contestant:
        return ours(load_hparams(["--hps", options.hps, "--n_batch", str(n_batch), *flags]), images)

    print(f"\nBatch {n_batch}")
    if options.only == "memory":
        return memory_table({PLAIN: ["--plain"]} | MEMORY, made)
    work = count_work(options.hps)
    rest = (options.rounds, device, n_batch * (work.forward + work.backward))
    if options.only != "scales":
        contestants = {name: made(*flags) for name, flags in switches(device, n_batch, options.compile).items()}
        if options.upstream:
            batch = Preprocess(hparams.dataset_spec)(images)
            contestants[ORIGINAL] = original(options.upstream.resolve(), hparams, batch)
        table(contestants, ORIGINAL if options.upstream else PLAIN, *rest)
        del contestants
    if options.only != "switches":
        table({name: made(*flags) for name, flags in SCALES.items()}, "vanilla", *rest)


def switches(device: str, n_batch: int, compiled: bool) -> dict[str, list[str]]:
    """Names and flags of the updates to compare on a device: plain, each switch alone, all switches on."""
    faster = (ON_CUDA if device == "cuda" else {}) | MEMORY | (PARTS if n_batch % 2 == 0 else {})
    return {PLAIN: ["--plain"]} | faster | (COMPILED | {"all on": ALL[device]} if compiled else {})


if __name__ == "__main__":
    main()
