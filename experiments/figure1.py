"""Figure 1 of Dehaene & Brossard 2021, the smallest scale by epoch: python -m experiments.figure1 --data_root DIR"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.mlp_vae import ALPHA, Cell
from experiments.mlp_vae_data import LEVELS
from experiments.mlp_vae_evaluation import bits_per_dim, smallest_scales
from experiments.mlp_vae_options import add_shared_options, check_shared_options, shown
from experiments.mlp_vae_state import StateFile
from experiments.mlp_vae_training import Training
from experiments.mnist import load_mnist
from experiments.results_file import ResultsFile

CELL = Cell("NaiveExp", "identity")
PRETRAINING = "pretraining"
PRETRAINING_RATE = 1e-4
RATES = (1e-4, 1e-5)
DESCRIPTION = """The smallest scale that the decoder gives any pixel of any training image, after each epoch: a VAE with
NaiveExp and the identity as mean is trained at 1e-4, and goes on, with Adam's moments, at 1e-4 and at 1e-5."""


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and write results.jsonl and figure1.png; 0, or 2 for unusable input."""
    args = _parser().parse_args(argv)
    try:
        check_shared_options(args)
        images = torch.from_numpy(load_mnist(Path(args.data_root)).train).to(args.device)
        results = ResultsFile(Path(args.out, "results.jsonl"), settings(args))
        seeds = [seed for seed in range(args.seeds) if (RATES[-1], seed) not in results.done]
        study = Study(seeds, images, args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for key, record in study.run():
        results.add(key, record)
    study.state_file.remove()
    path = Path(args.out, "figure1.png")
    draw(results.done, args.pretrain_epochs).savefig(path, dpi=120)
    print(path)
    return 0


def settings(args: argparse.Namespace) -> dict:
    """What all results of a file have in common."""
    return {"figure": 1, "pretrain_epochs": args.pretrain_epochs, "epochs": args.epochs, "batch_size": args.batch_size}


class Study:
    """One pre-training for each of `seeds`, and the two trainings that go on from it, seeds side by side."""

    def __init__(self, seeds: list[int], images: Tensor, args: argparse.Namespace):
        self.seeds, self.images, self.args = seeds, images, args
        self.measured = images / LEVELS
        self.state_file = StateFile(Path(args.out, "state.pt"), {**settings(args), "seeds": seeds})
        self.curves = {"smallest": [], "loss": []}  # of `[E]` tensors; E doubles after the pre-training
        if seeds:
            self._prepare()

    def run(self) -> list[tuple[tuple, dict]]:
        """The curves' keys, (pretraining or the learning rate, seed), and their records."""
        if not self.seeds:
            return []
        first, last = self.training.epoch, self.args.pretrain_epochs + self.args.epochs
        for _ in tqdm(range(first, last), total=last, initial=first, desc="figure 1", unit="epoch"):
            self._epoch()
        before = self.args.pretrain_epochs
        return self._records([PRETRAINING], slice(None, before)) + self._records(RATES, slice(before, None))

    def _prepare(self) -> None:
        state = self.state_file.load(self.args.device)
        branched = state is not None and state["training"]["epoch"] > self.args.pretrain_epochs
        self.training = self._training(RATES if branched else (PRETRAINING_RATE,))
        if state:
            self.training.restore(state["training"])
            self.curves = state["curves"]

    def _training(self, rates: tuple[float, ...]) -> Training:
        members = [(rate, seed) for rate in rates for seed in self.seeds]
        lrs, seeds = map(list, zip(*members))
        return Training([CELL] * len(members), seeds, lrs, self.images, self.args.batch_size)

    def _epoch(self) -> None:
        if self.training.epoch == self.args.pretrain_epochs:
            pretrained, self.training = self.training.state(), self._training(RATES)
            self.training.restore(repeated(pretrained, len(RATES)))
        self.curves["loss"].append(bits_per_dim(self.training.train_epoch()))
        self.curves["smallest"].append(smallest_scales(self.training.vaes, self.measured))
        self.state_file.save_if_due({"training": self.training.state(), "curves": self.curves})

    def _records(self, names: Sequence, epochs: slice) -> list[tuple[tuple, dict]]:
        keys = [(name, seed) for name in names for seed in self.seeds]
        smallest, loss = (shown(torch.stack(self.curves[name][epochs], 1)) for name in ("smallest", "loss"))
        return [(key, {"nan_epoch": epoch or None, "smallest": scales, "loss": losses})
                for key, epoch, scales, losses in zip(keys, self._nan_epochs(names), smallest, loss)]

    def _nan_epochs(self, names: Sequence) -> list[int]:
        """Of the first loss that was not finite, 0 for none; a NaN of the pre-training is in what follows too."""
        found, before = self.training.first_bad_epoch(), self.args.pretrain_epochs
        return found if names is RATES else [epoch if epoch <= before else 0 for epoch in found[:len(self.seeds)]]


def repeated(state: object, times: int) -> object:
    """A training's state with all members `times` over, in the order 0, 1, ..., 0, 1, ...; numbers as they are."""
    if isinstance(state, dict):
        return {name: repeated(part, times) for name, part in state.items()}
    if isinstance(state, list):
        return [repeated(part, times) for part in state]
    return torch.cat([state] * times) if isinstance(state, Tensor) and state.ndim else state


def draw(results: dict[tuple, dict], pretrain_epochs: int) -> Figure:
    """Smallest scales against epochs on a logarithmic axis, a colour for each stage; gaps where they are NaN or 0."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    colours = {PRETRAINING: "0.5", RATES[0]: "#D55E00", RATES[1]: "#0072B2"}
    for (name, _), record in results.items():
        start = 1 if name == PRETRAINING else pretrain_epochs + 1
        values = [float(value) for value in record["smallest"]]
        axes.plot(range(start, start + len(values)), values, color=colours[name], linewidth=1)
    for name, colour in colours.items():
        axes.plot([], [], color=colour, label=f"pre-training at {PRETRAINING_RATE:g}" if name == PRETRAINING else
                  f"learning rate {name:g}")
    axes.axhline(ALPHA, color="0.7", linestyle=":", label="noise of one grey level, 1/(256 √12)")
    axes.set(xlabel="epoch", ylabel="smallest γ(z) over the training images", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.figure1", description=DESCRIPTION, allow_abbrev=False)
    add_shared_options(parser, seeds=1, epochs=1000, out="./saved_models/figure1")
    parser.add_argument("--pretrain_epochs", type=int, default=1000, metavar="N",
                        help="at 1e-4, before the two (default: 1000, as in the paper)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
