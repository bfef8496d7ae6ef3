"""Time and memory of whole training updates: python -m benchmarks.cost.train_step

Compares our plain update with each switch, the parameterizations with each other, and ours with the original's. Beside the
reference one update at a time is in memory. Exit code 1 when an update failed; its row says why.
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
from benchmarks.cost.printed_table import PrintedTable
from benchmarks.cost.work import count_work
from vdvae.step.acceleration import choose_kernels, compile_parts, for_device, memory_format
from vdvae.ranks.distributed import World
from vdvae.step.graphed_step import WARM_UP, CudaGraphs, GraphedStep
from vdvae.records.run_log import LABELLED
from vdvae.settings.hparams import Hparams, load_hparams
from vdvae.settings.table import Effect, settings_that_change
from vdvae.data.preprocess import Batch, Preprocess
from vdvae.saving.training_state import new_state
from vdvae.step.train_step import TrainStep
from vdvae.model.vae import VAE

PLAIN, ORIGINAL = "plain float32", "original"
TF32 = {"tf32": ["--precision", "tf32"]}  # name to flags
MEMORY = {"bf16": ["--precision", "bf16"], "checkpoint_blocks": ["--plain", "--checkpoint_blocks"],
          "bf16, checkpoint_blocks": ["--precision", "bf16", "--checkpoint_blocks"]}
PARTS = {"accumulate_steps 2": ["--plain", "--accumulate_steps", "2"]}
GRAPHS = {"cuda_graphs": ["--precision", "fp32", "--cuda_graphs"],
          "bf16, cuda_graphs": ["--precision", "bf16", "--cuda_graphs"]}
COMPILED = {"compile": ["--precision", "fp32", "--compile"]}
ALL = {"cpu": ["--precision", "bf16", "--compile"], "cuda": ["--precision", "bf16", "--compile", "--cuda_graphs"]}
OURS = (*LABELLED, "exact_levels", "blocks")  # settings that the original does not have
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
    compiled: bool = False
    recorded: bool = False  # as a CUDA graph, which keeps the memory of an update


def ours(hparams: Hparams, images: Tensor, share: Callable[[VAE], nn.Module] = lambda vae: vae, ranks: int = 1) -> Contestant:
    """Our update as train.py makes it for these hyper-parameters; `share` wraps the model where ranks share gradients.

    With graphs, `ranks` above 1 share gradients between the two.
    """
    device = images.device
    hparams, world = for_device(hparams, device), World(size=ranks, device=device)
    choose_kernels(hparams.deterministic, device)
    state = new_state(hparams, world)
    if hparams.compile:
        compile_parts(state.vae)
    step = TrainStep(share(state.vae), state.average, state.optimizer, hparams, world, state.penalty)
    call = GraphedStep(step, CudaGraphs()) if hparams.cuda_graphs else step
    batch = Preprocess(hparams.dataset_spec, memory_format(hparams))(images)
    update = partial(call, *batch, hparams.lr)
    update()
    needs = memory(update, state.vae, state.average, state.optimizer, WARM_UP if hparams.cuda_graphs else 1)  # a replayed update allocates nothing
    return Contestant(update, len(images), *needs, hparams.precision, hparams.compile, hparams.cuda_graphs)


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


class Comparison:
    """A table of updates: the reference first, each other one measured beside it. `flops` are those of one update.

    A recorded update is measured alone, and the reference's latest times count: a graph keeps the memory of its update, and
    at batch 128 the reference does not fit beside it.
    """

    def __init__(self, reference: str, rounds: int, device: str, flops: int):
        self.name, self.rounds, self.device, self.flops = reference, rounds, device, flops
        self.reference: Contestant | None = None  # stays None if it fails
        self.times: dict[str, list[float]] = {}
        self.peaks: dict[str, float] = {}  # by precision
        self.table = PrintedTable("update", "images/s", f"speed against {reference}", "peak memory, GB", f"against {reference}",
                                  "share of measured peak", "operators", "pointwise")

    def add(self, name: str, make: Callable[[], Contestant]) -> None:
        """Make an update, measure it and print its row."""
        self.table.add(name, lambda: self._cells(name, make()))

    def _cells(self, name: str, contestant: Contestant) -> list[str]:
        runs = {name: contestant.update}
        if self.reference and not contestant.recorded:
            runs[self.name] = self.reference.update
        self.times |= alternating_seconds(runs, self.rounds, self.device)
        if name == self.name:
            self.reference = contestant
        median, precision = statistics.median(self.times[name]), contestant.precision
        self.peaks[precision] = peak_flops(precision, self.device)
        speed, memory = self._against(name, contestant)
        return [f"{contestant.images / median:.2f}", speed, f"{contestant.peak_bytes / 1e9:.2f}", memory,
                f"{self.flops / median / self.peaks[precision]:.0%} ({precision})", *operators(contestant)]

    def _against(self, name: str, contestant: Contestant) -> tuple[str, str]:
        """Speed and memory against the reference's."""
        if self.reference is None:
            return "–", "–"
        ratio = ratios_to(self.name, self.times)[name]
        return f"{1 / ratio:.2f}", f"{contestant.peak_bytes / self.reference.peak_bytes:.2f}"

    def end(self) -> int:
        """Print what the shares refer to; returns how many updates failed."""
        peaks = ", ".join(f"{peak / 1e12:.3g} TFLOP/s in {precision}" for precision, peak in sorted(self.peaks.items()))
        print(f"\nMatrix products reach {peaks or 'nothing: no update was measured'}.", flush=True)
        return self.table.failures


def operators(contestant: Contestant) -> list[str]:
    """How many operators an update dispatches, and how many of them are pointwise; unknown for compiled or recorded work."""
    if contestant.compiled or contestant.recorded:
        return ["–", "–"]
    with OperatorCount() as count:
        contestant.update()
    return [f"{count.all:,}", f"{count.pointwise:,}"]


def memory_cells(contestant: Contestant) -> list[str]:
    """The two figures of the memory table."""
    return [f"{size / 1e9:.2f}" for size in (contestant.kept_bytes, contestant.peak_bytes)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables; 1 when an update failed, else 0."""
    options = parsed(arguments)
    device, work = options.device, count_work(options.hps)
    machine = torch.cuda.get_device_name() if device == "cuda" else "a CPU"
    print(f"{options.hps} on {machine}, {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}; "
          f"{(work.forward + work.backward) / 1e9:.1f} GFLOP per image")
    return int(sum(measure(options, n_batch) for n_batch in options.n_batch or ([16, 128] if device == "cuda" else [8])) > 0)


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


def measure(options: argparse.Namespace, n_batch: int) -> int:
    """Prints the tables for one batch size; returns how many updates failed."""
    device, hparams = options.device, load_hparams(["--hps", options.hps, "--n_batch", str(n_batch)])
    images = torch.randint(0, 256, (n_batch, hparams.image_size, hparams.image_size, 3), dtype=torch.uint8).to(device)

    def made(flags: list[str]) -> Contestant:
        return ours(load_hparams(["--hps", options.hps, "--n_batch", str(n_batch), *flags]), images)

    print(f"\nBatch {n_batch}", flush=True)
    if options.only == "memory":
        table = PrintedTable("update", "weights, averages, optimizer, GB", "at the peak of an update, GB")
        for name, flags in ({PLAIN: ["--plain"]} | MEMORY).items():
            table.add(name, lambda: memory_cells(made(flags)))
        return table.failures
    work, failures = count_work(options.hps), 0
    graphs = ["--cuda_graphs"] if device == "cuda" else []  # without them the launches of operators would be measured
    groups = {"switches": switches(device, n_batch, options.compile),
              "scales": {name: [*flags, *graphs] for name, flags in SCALES.items()}}
    for group in ([options.only] if options.only else groups):
        makers = {name: partial(made, flags) for name, flags in groups[group].items()}
        if options.upstream and group == "switches":
            batch = Preprocess(hparams.dataset_spec)(images)
            makers = {ORIGINAL: lambda: original(options.upstream.resolve(), hparams, batch)} | makers
        comparison = Comparison(next(iter(makers)), options.rounds, device, n_batch * (work.forward + work.backward))
        for name, make in makers.items():
            comparison.add(name, make)
        failures += comparison.end()
    return failures


def switches(device: str, n_batch: int, compiled: bool) -> dict[str, list[str]]:
    """Names and flags of the updates to compare on a device: plain, each switch alone, all switches on.

    What takes longer to prepare, graphs and then compiled code, comes last: a time limit shall cost the fewest rows.
    """
    eager = {PLAIN: ["--plain"]} | (TF32 if device == "cuda" else {}) | MEMORY | (PARTS if n_batch % 2 == 0 else {})
    graphs = GRAPHS if device == "cuda" else {}
    return eager | graphs | (COMPILED | {"all on": ALL[device]} if compiled else {})


if __name__ == "__main__":
    sys.exit(main())
