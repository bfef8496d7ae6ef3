"""Figure 1 of Dehaene & Brossard 2021, the smallest scale by epoch: python -m experiments.figure1 --data_root DIR"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.mlp_vae.data import LEVELS
from experiments.mlp_vae.evaluation import bits_per_dim, smallest_scales
from experiments.mlp_vae.model import ALPHA, Cell
from experiments.mlp_vae.study import Study, add_mnist_options
from experiments.mlp_vae.training import Training
from experiments.shared.options import check_options
from experiments.shared.results import ResultsFile
from vdvae.data.sets.mnist import read_mnist

CELL = Cell("NaiveExp", "identity")
PRETRAINING = "pretraining"
PRETRAINING_RATE = 1e-4
RATES = (1e-4, 1e-5)
DESCRIPTION = """The smallest scale that the decoder gives any pixel of any training image, after each epoch. A VAE with
NaiveExp and the identity as mean trains at 1e-4 and then continues, with Adam's moments, once at 1e-4 and once at 1e-5."""


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and write results.jsonl and figure1.png; 0, or 2 for unusable input."""
    args = _parser().parse_args(argv)
    try:
        check_options(args)
        images = torch.from_numpy(read_mnist(Path(args.data_root)).train).to(args.device)
        results = ResultsFile(Path(args.out, "results.jsonl"), settings(args))
        seeds = [seed for seed in range(args.seeds) if (RATES[-1], seed) not in results.done]
        study = Figure1(seeds, images, args) if seeds else None
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if study:
        study.run(args.pretrain_epochs + args.epochs, "figure 1")
        for key, record in study.records():
            results.add(key, record)
        study.state_file.remove()
    path = Path(args.out, "figure1.png")
    draw(results.done, args.pretrain_epochs).savefig(path, dpi=120)
    print(path)
    return 0


def settings(args: argparse.Namespace) -> dict:
    """The settings that all results of a file share."""
    return {"figure": 1, "pretrain_epochs": args.pretrain_epochs, "epochs": args.epochs, "batch_size": args.batch_size}


class Figure1(Study):
    """One pre-training for each of `seeds`, side by side, and the two trainings that continue each of them."""

    def __init__(self, seeds: list[int], images: Tensor, args: argparse.Namespace):
        super().__init__(args, {**settings(args), "seeds": seeds}, ("smallest", "loss"))
        self.seeds, self.images, self.measured = seeds, images, images / LEVELS
        state = self.state_file.load(args.device)
        branched = state is not None and len(state["trainings"]) > 1
        self.trainings = [self._training(rate) for rate in (RATES if branched else (PRETRAINING_RATE,))]
        if state:
            self.restore(state)

    def train_epoch(self) -> None:
        """Train for one epoch and measure; after the pre-training each rate has a training of its own."""
        if self.trainings[0].epoch == self.args.pretrain_epochs:
            pretrained = self.trainings[0].state()
            self.trainings = [self._training(rate) for rate in RATES]
            for training in self.trainings:
                training.restore(pretrained)
        self.curves["loss"].append(bits_per_dim(torch.cat([training.train_epoch() for training in self.trainings])))
        smallest = [smallest_scales(training.vaes, self.measured) for training in self.trainings]
        self.curves["smallest"].append(torch.cat(smallest))

    def records(self) -> list[tuple[tuple, dict]]:
        """The keys of the curves, (pretraining or the learning rate, seed), and their records."""
        before = self.args.pretrain_epochs
        return self._records([PRETRAINING], slice(None, before)) + self._records(RATES, slice(before, None))

    def _training(self, rate: float) -> Training:
        return Training([CELL] * len(self.seeds), self.seeds, rate, self.images, self.args.batch_size)

    def _records(self, names: Sequence, epochs: slice) -> list[tuple[tuple, dict]]:
        keys = [(name, seed) for name in names for seed in self.seeds]
        columns = self._nan_epochs(names), self.curve("smallest", epochs), self.curve("loss", epochs)
        return [(key, {"nan_epoch": epoch or None, "smallest": scales, "loss": losses})
                for key, epoch, scales, losses in zip(keys, *columns)]

    def _nan_epochs(self, names: Sequence) -> list[int]:
        """Epochs of the first loss that is not finite, 0 for none; later stages have the epoch of the pre-training too."""
        found, before = [training.first_bad_epoch() for training in self.trainings], self.args.pretrain_epochs
        return sum(found, []) if names is RATES else [epoch if epoch <= before else 0 for epoch in found[0]]


def draw(results: dict[tuple, dict], pretrain_epochs: int) -> Figure:
    """Smallest scales against epochs on a logarithmic axis, with a colour for each stage; NaN and 0 leave gaps."""
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
    add_mnist_options(parser, seeds=1, epochs=1000, out="./saved_models/figure1")
    parser.add_argument("--pretrain_epochs", type=int, default=1000, metavar="N",
                        help="epochs at 1e-4 before the two trainings (default: 1000, as in the paper)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
