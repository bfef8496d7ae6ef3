"""Cost of raw outputs -> (KL per sample, z), forward and backward: python -m benchmarks.cost.kl_and_draw"""

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.accuracy import kl_accuracy
from benchmarks.accuracy.kl_forms import torch_distributions, vdvae, vdvae_draw
from benchmarks.cost.measuring import alternating_seconds, keep_freed_memory, peak_bytes, ratios_to
from stable_params import parse_parameterization
from vdvae.settings.block_strings import parse_decoder_blocks
from vdvae.settings.hparams import load_hparams

REFERENCE = "original VDVAE, scripted"
FLAGS = ("exp", "explin", "upbounded1")
Block = tuple[Tensor, ...]  # loc, raw, prior loc, prior raw (leaves with gradient) and noise, each [B, zdim, res, res]
Form = Callable[..., tuple[Tensor, Tensor]]


def latent_shapes(hps: str) -> list[tuple[int, ...]]:
    """[B, zdim, res, res] of each decoder block of a hyper-parameter set, B its batch per rank."""
    hparams = load_hparams(["--hps", hps])
    resolutions = [block.resolution for block in parse_decoder_blocks(hparams.dec_blocks)]
    return [(hparams.n_batch, hparams.zdim, resolution, resolution) for resolution in resolutions]


def make_blocks(shapes: Sequence[tuple[int, ...]], device: str) -> list[Block]:
    """Random raw outputs for each block."""
    torch.manual_seed(0)

    def block(shape: tuple[int, ...]) -> Block:
        return tuple(torch.randn(shape, device=device).div_(2).requires_grad_(i < 4) for i in range(5))

    return [block(shape) for shape in shapes]


def stable_form(flag: str) -> Form:
    """(KL per sample, z) of a parameterization of this library."""
    parameterization = parse_parameterization(flag)

    def form(loc: Tensor, raw: Tensor, prior_loc: Tensor, prior_raw: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        posterior = parameterization.normal(loc, raw)
        return posterior.kl(parameterization.normal(prior_loc, prior_raw)).sum((1, 2, 3)), posterior.rsample(eps)

    return form


def other_form(kl: Callable[..., Tensor], draw: Callable[..., Tensor]) -> Form:
    """The same of another KL and draw, which take log sigma = raw."""
    return lambda loc, raw, prior_loc, prior_raw, eps: (
        kl(loc, raw, prior_loc, prior_raw).sum((1, 2, 3)), draw(loc, raw, eps))  # fmt: skip


def forms(compiled: bool) -> dict[str, Form]:
    """All forms by name, the reference first."""
    table = {REFERENCE: other_form(torch.jit.script(vdvae), torch.jit.script(vdvae_draw))}
    table["torch.distributions"] = other_form(torch_distributions, vdvae_draw)
    table |= {flag: stable_form(flag) for flag in FLAGS}
    if compiled:
        torch._dynamo.config.recompile_limit = 64
        table |= {f"{flag}, compiled": torch.compile(stable_form(flag), fullgraph=True, dynamic=False) for flag in FLAGS}
    return table


def step(form: Form, blocks: Sequence[Block]) -> None:
    """All blocks forward, then backward with the noise as z's gradient."""
    results = [form(*block) for block in blocks]
    gradients = [(torch.ones_like(kl), block[4]) for (kl, _), block in zip(results, blocks)]
    torch.autograd.backward([t for pair in results for t in pair], [g for pair in gradients for g in pair])
    for block in blocks:
        for leaf in block[:4]:
            leaf.grad = None


def copy_step(blocks: Sequence[Block]) -> None:
    """Eight copies per block move what a step must: 6 tensors forward (5 read, z written), 10 backward (6 read, 4)."""
    for block in blocks:
        for _ in range(8):
            block[4].clone()


def measure(runs: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, tuple[float, float, float]]:
    """Per run: median over rounds of the time ratio to the first run, median seconds, peak bytes."""
    for run in runs.values():
        run()
    times = alternating_seconds(runs, rounds, device)
    ratios = ratios_to(REFERENCE, times)
    return {name: (ratios[name], statistics.median(times[name]), peak_bytes(runs[name], device)) for name in runs}


def report(hps: str, rounds: int, device: str, compiled: bool) -> None:
    """Prints one table for the latent shapes of a hyper-parameter set."""
    blocks = make_blocks(latent_shapes(hps), device)
    runs = {name: lambda form=form: step(form, blocks) for name, form in forms(compiled).items()}
    runs["plain copy of the same bytes"] = lambda: copy_step(blocks)
    rows = measure(runs, rounds, device)
    reference_bytes = rows[REFERENCE][2]
    print(f"\n{hps}: {len(blocks)} blocks, batch {blocks[0][0].shape[0]}, {device}\n")
    print("| form | time / original | ms | peak memory / original |\n|---|---|---|---|")
    for name, (ratio, median, peak) in rows.items():
        print(f"| {name} | {ratio:.2f} | {1e3 * median:.1f} | {peak / reference_bytes:.2f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables, or with --accuracy where other forms of the KL fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hps", nargs="+", default=["cifar10", "imagenet64"], help="hyper-parameter sets")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds, each of every form")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out")
    parser.add_argument("--accuracy", action="store_true", help="count inf, NaN and lost digits instead")
    options = parser.parse_args(arguments)
    if options.accuracy:
        return kl_accuracy.main()
    keep_freed_memory()
    for hps in options.hps:
        report(hps, options.rounds, options.device, not options.eager)


if __name__ == "__main__":
    main()
