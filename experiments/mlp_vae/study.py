"""An experiment on MNIST that trains an ensemble by epochs: its options, its progress, and how it continues."""

import argparse
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from experiments.mlp_vae.training import Training
from experiments.shared.options import add_shared_options
from experiments.shared.results import StateFile, json_numbers

BATCH_SIZE = 512  # that of the paper's section 7.1; the paper gives none for MNIST


def add_mnist_options(parser: argparse.ArgumentParser, seeds: int, epochs: int, out: str) -> None:
    """Options of the experiments on MNIST, with these defaults."""
    parser.add_argument("--data_root", required=True, metavar="DIR",
                        help="folder with mnist.npz; run_scripts/setup_mnist.sh DIR gets it")
    parser.add_argument("--epochs", type=int, default=epochs, metavar="N", help=f"default: {epochs}, as in the paper")
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE, metavar="N",
                        help=f"default: {BATCH_SIZE}, that of section 7.1; the paper gives none for MNIST")
    add_shared_options(parser, seeds, out)


class Study(ABC):
    """One training of an ensemble by epochs, which continues from the last saved state.

    A subclass makes `trainings`, which are at the same epoch, and says in `train_epoch` what an epoch is. It adds to `state`
    and `restore` what else it keeps. `curves` have a tensor for each epoch, with a number for each member of all trainings.
    """

    trainings: list[Training]

    def __init__(self, args: argparse.Namespace, identity: dict, curves: tuple[str, ...]):
        self.args = args
        self.state_file = StateFile(Path(args.out, "state.pt"), identity)
        self.curves: dict[str, list[Tensor]] = {name: [] for name in curves}

    def run(self, epochs: int, name: str) -> None:
        """Train to the end of epoch `epochs`."""
        first = self.trainings[0].epoch
        with tqdm(total=epochs, initial=first, desc=name, unit="epoch") as bar:
            for _ in range(first, epochs):
                self.train_epoch()
                self.state_file.save_if_due(self.state())
                bar.set_postfix(NaN=int(sum((training.first_bad > 0).sum() for training in self.trainings)), refresh=False)
                bar.update()

    @abstractmethod
    def train_epoch(self) -> None:
        """Train for one epoch and extend the curves."""

    def state(self) -> dict:
        """Everything that the rest of the study depends on."""
        return {"trainings": [training.state() for training in self.trainings], "curves": self.curves}

    def restore(self, state: dict) -> None:
        """Continue from what `state` returned."""
        for training, saved in zip(self.trainings, state["trainings"], strict=True):
            training.restore(saved)
        self.curves = state["curves"]

    def curve(self, name: str, epochs: slice = slice(None)) -> list[list]:
        """For each member its values of these epochs, as numbers for JSON."""
        return json_numbers(torch.stack(self.curves[name][epochs], 1))
