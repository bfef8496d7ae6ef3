"""Table 3 of Dehaene & Brossard 2021, MNIST with six decoder scales: python -m experiments.table3 --data_root DIR"""

import argparse
import sys
from pathlib import Path

from experiments.mlp_vae.data import Data
from experiments.mlp_vae.evaluation import bits_per_dim, importance_weighted_bits, negative_elbo_bits
from experiments.mlp_vae.model import CELLS, Cell, MlpVaes
from experiments.mlp_vae.study import Study, add_mnist_options
from experiments.mlp_vae.table3_report import write_report
from experiments.mlp_vae.training import Selection, Training
from experiments.shared.options import check_options
from experiments.shared.results import ResultsFile, json_numbers
from vdvae.data.sets.mnist import read_mnist

LEARNING_RATE = 1e-4
DESCRIPTION = """Six decoder scales times two mean heads, each from several seeds, train as one batched computation. The
program tests the model with the lowest validation NLL. NLL is in bits per dimension on the scale of grey levels, 0..255, and
is the negative ELBO unless --importance_samples is given; the paper does not say which it prints. Validation and test images
get noise of one grey level's width, training images do not."""


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and write results.jsonl, table3.md and table3.png; 0, or 2 for unusable input."""
    args = _parser().parse_args(argv)
    try:
        check_options(args)
        data = Data.of(*read_mnist(Path(args.data_root)), args.device)
        results = ResultsFile(Path(args.out, "results.jsonl"), settings(args))
        missing = [(cell, seed) for cell in CELLS for seed in range(args.seeds) if (*cell, seed) not in results.done]
        study = Table3(missing, data, args) if missing else None
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if study:
        study.run(args.epochs, f"{len(missing)} VAEs")
        for (cell, seed), record in zip(missing, study.records()):
            results.add((*cell, seed), record)
        study.state_file.remove()
    print(write_report(Path(args.out), results.done, settings(args)))
    return 0


def settings(args: argparse.Namespace) -> dict:
    """The settings that all results of a file share."""
    return {"table": 3, "epochs": args.epochs, "batch_size": args.batch_size, "lr": LEARNING_RATE,
            "importance_samples": args.importance_samples}


class Table3(Study):
    """The training of `members`, (cell, seed) each, with the best validated model of each member."""

    def __init__(self, members: list[tuple[Cell, int]], data: Data, args: argparse.Namespace):
        super().__init__(args, {**settings(args), "members": members}, ("train", "valid"))
        self.members, self.data = members, data
        cells, seeds = map(list, zip(*members))
        self.training = Training(cells, seeds, LEARNING_RATE, data.train, args.batch_size)
        self.trainings = [self.training]
        self.selection = Selection(self.training.vaes.parameters)
        if state := self.state_file.load(args.device):
            self.restore(state)

    def train_epoch(self) -> None:
        """Train for one epoch, validate, and keep each member's best model."""
        vaes = self.training.vaes
        self.curves["train"].append(bits_per_dim(self.training.train_epoch()))
        valid = negative_elbo_bits(vaes, self.data.valid)
        self.curves["valid"].append(valid)
        self.selection.offer(valid, self.training.epoch, vaes.parameters)

    def state(self) -> dict:
        """Adds the selection."""
        return {**super().state(), "selection": self.selection.state()}

    def restore(self, state: dict) -> None:
        """Continue from what `state` returned."""
        super().restore(state)
        self.selection.restore(state["selection"])

    def records(self) -> list[dict]:
        """The record of each member."""
        columns = {
            "nan_step": [step or None for step in self.training.first_bad.tolist()],
            "nan_epoch": [epoch or None for epoch in self.training.first_bad_epoch()],
            "selected_epoch": [epoch or None for epoch in self.selection.epoch.tolist()],
            "valid": json_numbers(self.selection.value),
            **self._tested(),
            "train_curve": self.curve("train"),
            "valid_curve": self.curve("valid"),
        }
        return [dict(zip(columns, values)) for values in zip(*columns.values())]

    def _tested(self) -> dict[str, list]:
        best = MlpVaes([cell for cell, _ in self.members], self.selection.parameters)
        tested = {"test": json_numbers(negative_elbo_bits(best, self.data.test))}
        if self.args.importance_samples:
            weighted = importance_weighted_bits(best, self.data.test, self.args.importance_samples)
            tested["importance_weighted_test"] = json_numbers(weighted)
        return tested


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.table3", description=DESCRIPTION, allow_abbrev=False)
    add_mnist_options(parser, seeds=5, epochs=1000, out="./saved_models/table3")
    parser.add_argument("--importance_samples", type=int, metavar="K",
                        help="test with the importance-weighted bound of K draws an image (default: negative ELBO)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
