"""Table 3 of Dehaene & Brossard 2021, MNIST with six decoder scales: python -m experiments.table3 --data_root DIR"""

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from experiments.mlp_vae import CELLS, Cell, MlpVaes
from experiments.mlp_vae_data import Data
from experiments.mlp_vae_evaluation import bits_per_dim, importance_weighted_bits, negative_elbo_bits
from experiments.mlp_vae_options import add_shared_options, check_shared_options, shown
from experiments.mlp_vae_state import StateFile
from experiments.mlp_vae_training import Selection, Training
from experiments.mnist import load_mnist
from experiments.results_file import ResultsFile
from experiments.table3_report import write_report

LEARNING_RATE = 1e-4
DESCRIPTION = """Six decoder scales times two mean heads, each from several seeds, all trained as one batched
computation; the model with the lowest validation NLL is tested. NLL is in bits per dimension on the scale of grey
levels, 0..255, and is the negative ELBO unless --importance_samples is given; the paper says neither. Noise of one
grey level's width is added to validation and test images, not to training images."""


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and write results.jsonl, table3.md and table3.png; 0, or 2 for unusable input."""
    args = _parser().parse_args(argv)
    try:
        check_shared_options(args)
        data = Data.of(*load_mnist(Path(args.data_root)), args.device)
        results = ResultsFile(Path(args.out, "results.jsonl"), settings(args))
        missing = [(cell, seed) for cell in CELLS for seed in range(args.seeds) if (*cell, seed) not in results.done]
        study = Study(missing, data, args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for (cell, seed), record in study.run():
        results.add((*cell, seed), record)
    study.state_file.remove()
    print(write_report(Path(args.out), results.done, settings(args)))
    return 0


def settings(args: argparse.Namespace) -> dict:
    """What all results of a file have in common."""
    return {"table": 3, "epochs": args.epochs, "batch_size": args.batch_size, "lr": LEARNING_RATE,
            "importance_samples": args.importance_samples}


class Study:
    """The training of `members`, (cell, seed) each, from the last saved state if there is one."""

    def __init__(self, members: list[tuple[Cell, int]], data: Data, args: argparse.Namespace):
        self.members, self.data, self.args = members, data, args
        self.state_file = StateFile(Path(args.out, "state.pt"), {**settings(args), "members": members})
        self.seconds, self.curves = 0.0, {"train": [], "valid": []}  # of `[E]` tensors, in bits per dimension
        if members:
            self._prepare()

    def run(self) -> list[tuple[tuple[Cell, int], dict]]:
        """The members and their records, when all epochs are done; nothing if there are no members."""
        if not self.members:
            return []
        first = self.training.epoch
        with tqdm(total=self.args.epochs, initial=first, desc=f"{len(self.members)} VAEs", unit="epoch") as bar:
            for _ in range(first, self.args.epochs):
                self._epoch()
                bar.set_postfix(NaN=int((self.training.first_bad > 0).sum()), refresh=False)
                bar.update()
        return list(zip(self.members, self._records()))

    def _prepare(self) -> None:
        cells, seeds = map(list, zip(*self.members))
        rates = [LEARNING_RATE] * len(seeds)
        self.training = Training(cells, seeds, rates, self.data.train, self.args.batch_size)
        self.selection = Selection(self.training.vaes.parameters)
        state = self.state_file.load(self.args.device)
        if state:
            self.training.restore(state["training"])
            self.selection.restore(state["selection"])
            self.seconds, self.curves = state["seconds"], state["curves"]

    def _epoch(self) -> None:
        began, vaes = time.monotonic(), self.training.vaes
        self.curves["train"].append(bits_per_dim(self.training.train_epoch()))
        valid = negative_elbo_bits(vaes, self.data.valid)
        self.curves["valid"].append(valid)
        self.selection.offer(valid, self.training.epoch, vaes.parameters)
        self.seconds += time.monotonic() - began
        self.state_file.save_if_due({"training": self.training.state(), "selection": self.selection.state(),
                                     "seconds": self.seconds, "curves": self.curves})

    def _records(self) -> list[dict]:
        steps, epochs = self.training.first_bad.tolist(), self.training.first_bad_epoch()
        columns = {
            "nan_step": [step or None for step in steps],
            "nan_epoch": [epoch or None for epoch in epochs],
            "selected_epoch": [epoch or None for epoch in self.selection.epoch.tolist()],
            "valid": shown(self.selection.value),
            **self._tested(),
            "train_curve": shown(torch.stack(self.curves["train"], 1)),
            "valid_curve": shown(torch.stack(self.curves["valid"], 1)),
        }
        together = {"trained_together": len(self.members), "seconds_together": round(self.seconds, 1)}
        return [dict(zip(columns, values)) | together for values in zip(*columns.values())]

    def _tested(self) -> dict[str, list]:
        best = MlpVaes([cell for cell, _ in self.members], self.selection.parameters)
        tested = {"test": shown(negative_elbo_bits(best, self.data.test))}
        if self.args.importance_samples:
            weighted = importance_weighted_bits(best, self.data.test, self.args.importance_samples)
            tested["importance_weighted_test"] = shown(weighted)
        return tested


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.table3", description=DESCRIPTION, allow_abbrev=False)
    add_shared_options(parser, seeds=5, epochs=1000, out="./saved_models/table3")
    parser.add_argument("--importance_samples", type=int, metavar="K",
                        help="test with the importance-weighted bound of K draws an image (default: negative ELBO)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
