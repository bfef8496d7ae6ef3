"""Small runs of the trainer in this process, runs that are interrupted, and the comparison of two runs to the bit."""

import contextlib
import json
from pathlib import Path

import torch

from vdvae.ranks.distributed import World
from vdvae.settings.hparams import load_hparams
from vdvae.step.train_step import TrainStep
from vdvae.training import run as run_module
from vdvae.training.run import run

TINY = ["--hps", "photos32_overfit", "--width", "8", "--zdim", "2", "--num_mixtures", "1", "--sigma_param", "explin",
        "--dec_blocks", "1x1,4m1,32m4", "--enc_blocks", "32d8,4d4,1x1", "--n_batch", "4", "--lr", "0.03", "--num_iters", "12",
        "--iters_per_print", "5",
        "--num_images_visualize", "3", "--num_variables_visualize", "1", "--num_temperatures_visualize", "1"]
# A threshold that some of the updates exceed: events and skips are part of what must come back.
FLAGS = [*TINY, "--iters_per_save", "5", "--skip_threshold", "3"]


def train(folder: Path, *flags) -> Path:
    run(load_hparams([*FLAGS, "--save_dir", str(folder), "--desc", "run", *map(str, flags)]), World())
    return folder / "run"


def stopping(monkeypatch, after: int) -> None:
    """The next run hears a signal before its update number `after`."""

    class Request:
        asked = 0

        @property
        def name(self):
            self.asked += 1
            return "SIGTERM" if self.asked > after else None

    monkeypatch.setattr(run_module, "listening", lambda _: contextlib.nullcontext(Request()))


def crashing(monkeypatch, after: int) -> None:
    """The next run dies in its update number `after`."""
    calls, original = [], TrainStep.__call__

    def step(self, *arguments):
        calls.append(1)
        if len(calls) > after:
            raise MemoryError("gone")
        return original(self, *arguments)

    monkeypatch.setattr(TrainStep, "__call__", step)


def tensors(folder: Path) -> dict:
    names = ("latest-model.th", "latest-model-ema.th")
    loaded = {name: torch.load(folder / name, weights_only=True) for name in names}
    weights = {f"{name} {key}": value for name, saved in loaded.items() for key, value in saved.items()}
    moments = torch.load(folder / "latest-opt.th", weights_only=True)["state"]
    return weights | {f"{i} {key}": value for i, state in moments.items() for key, value in state.items()}


def lines(folder: Path, name: str) -> list[dict]:
    """Records without what a clock says; hyper-parameters and messages left out."""
    records = map(json.loads, (folder / name).read_text().splitlines())
    kept = [record for record in records if "type" in record or "reason" in record]
    clocks = ("time", "iter_time", "data_time")
    return [{k: v for k, v in r.items() if k not in clocks} for r in kept if r.get("type") != "hparam"]


def assert_same(actual: Path, expected: Path) -> None:
    ours, theirs = tensors(actual), tensors(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(value)), name
    for name in ("log.jsonl", "events.jsonl"):
        assert repr(lines(actual, name)) == repr(lines(expected, name)), name
