"""train.py with one fault in one update of one rank: python -m benchmarks.faults.injected_run FAULT RANK UPDATE FLAGS ...

The fault comes from outside, through hooks: train.py has no switch for it.
"""

import runpy
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vdvae.ranks.distributed import launched_rank
from vdvae.step.train_step import TrainStep

TRAIN = Path(__file__).resolve().parents[2] / "train.py"


def bad_input(value: float, step: TrainStep, input: Tensor) -> list:
    """Spoils the first pixel of the rank's batch."""
    input[0, 0, 0, 0] = value
    return []


def bad_activation(value: float, step: TrainStep, input: Tensor) -> list:
    """Spoils one number of a decoder block's residual network in the forward pass."""
    def hook(module, inputs, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, 0, 0, 0] = value
        return output

    return [_block(step).resnet.register_forward_hook(hook)]


def bad_gradient(value: float, step: TrainStep, input: Tensor) -> list:
    """Spoils one number of the gradient of a decoder block's posterior network."""
    def hook(module, inputs, output: Tensor) -> None:
        output.register_hook(lambda grad: grad.index_fill(0, torch.tensor([0]), value))

    return [_block(step).enc.c4.register_forward_hook(hook)]


def raising(step: TrainStep, input: Tensor) -> list:
    """Raises an exception."""
    raise MemoryError("no memory left")


PLACES = {"input": bad_input, "activation": bad_activation, "gradient": bad_gradient}
# A fault takes the step and the rank's input, and returns its hooks, which are removed after the update.
FAULTS = {f"{value}-{place}": partial(spoil, float(value)) for place, spoil in PLACES.items() for value in ("nan", "inf")}
FAULTS["exception"] = raising


def inject(fault: str, rank: int, update: int) -> None:
    """If this process is `rank`, call number `update` (from 0) of every TrainStep has the fault."""
    original, calls = TrainStep.__call__, []

    def step(self: TrainStep, input: Tensor, target: Tensor, *rest):
        calls.append(1)
        hooks = FAULTS[fault](self, input) if len(calls) == update + 1 and launched_rank() == rank else []
        try:
            return original(self, input, target, *rest)
        finally:
            for hook in hooks:
                hook.remove()

    TrainStep.__call__ = step


def _block(step: TrainStep) -> torch.nn.Module:
    return getattr(step.model, "module", step.model).decoder.dec_blocks[1]


if __name__ == "__main__":
    inject(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.argv = [str(TRAIN), *sys.argv[4:]]
    runpy.run_path(str(TRAIN), run_name="__main__")
