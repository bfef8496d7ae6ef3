"""A run's figures and sample sheets for TensorBoard, beside its own log: `--tensorboard`."""

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

FOLDER = "tensorboard"  # in the run's folder


def check_tensorboard() -> None:
    """Raise ModuleNotFoundError that says what to install when TensorBoard is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError("--tensorboard needs the package tensorboard, which is not installed: pip install "
                                  "'stable-vdvae[tensorboard]' or pip install tensorboard")


class TensorBoard:
    """Writes a run's log lines from update `first_step` on into run_folder/tensorboard.

    Earlier records from that step on are hidden: --resume makes those updates again. Methods raise OSError on a full disk.
    """

    def __init__(self, run_folder: Path, first_step: int):
        self.folder, self.first_step = run_folder / FOLDER, first_step

    @cached_property
    def writer(self) -> Any:
        """TensorBoard's own writer, made when the first record comes."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.folder, purge_step=self.first_step or None)

    def record(self, record: dict) -> None:
        """The numbers of a train, eval or test line: `train/elbo`, `eval/bits_per_dim`, `eval/rate_per_block/3`, ..."""
        kind = str(record.get("type")).removesuffix("_loss")
        if kind not in ("train", "eval", "test"):
            return
        for name, value in record.items():
            values = {f"{name}/{n}": each for n, each in enumerate(value)} if isinstance(value, list) else {name: value}
            for tag, each in values.items():
                if isinstance(each, (int, float)) and name != "step":
                    self.writer.add_scalar(f"{kind}/{tag}", each, record.get("step"))
        self.writer.flush()

    def sheet(self, path: Path, step: int) -> None:
        """A sample sheet, a PNG; TensorBoard gets 8 bits of it."""
        pixels = np.atleast_3d(imageio.imread(path))
        pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
        self.writer.add_image("samples", pixels, step, dataformats="HWC")
        self.writer.flush()
