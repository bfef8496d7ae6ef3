"""A run's figures and sample sheets for TensorBoard, beside its own log: `--tensorboard`."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as imageio

FOLDER = "tensorboard"  # in the run's folder


def check_tensorboard() -> None:
    """Raise ModuleNotFoundError that says what to install when TensorBoard is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError("--tensorboard needs the package tensorboard, which is not installed: pip install "
                                  "'stable-vdvae[tensorboard]' or pip install tensorboard")


class TensorBoard:
    """Writes a run's log lines from update `first_step` on into run_folder/tensorboard.

    Earlier records from that step on are hidden: --resume makes those updates again. All of it is in the run's own files too,
    so where the disk is full one message says so, and the rest is left out.
    """

    def __init__(self, run_folder: Path, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = None
        with self._surviving_full_disk():
            self.writer = SummaryWriter(run_folder / FOLDER, purge_step=first_step or None)

    def record(self, record: dict) -> None:
        """The numbers of a train, eval or test line: `train/elbo`, `eval/bits_per_dim`, `eval/rate_per_block/3`, ..."""
        kind = str(record.get("type")).removesuffix("_loss")
        if kind not in ("train", "eval", "test") or not self.writer:
            return
        with self._surviving_full_disk():
            for name, value in record.items():
                values = {f"{name}/{n}": each for n, each in enumerate(value)} if isinstance(value, list) else {name: value}
                for tag, each in values.items():
                    if isinstance(each, (int, float)) and name != "step":
                        self.writer.add_scalar(f"{kind}/{tag}", each, record.get("step"))
            self.writer.flush()

    def sheet(self, path: Path, step: int) -> None:
        """A sample sheet, a PNG."""
        if self.writer:
            with self._surviving_full_disk():
                self.writer.add_image("samples", imageio.imread(path), step, dataformats="HWC")
                self.writer.flush()

    @contextmanager
    def _surviving_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            print(f"error: TensorBoard's files could not be written, the run goes on without them: {error}", file=sys.stderr)
            self.writer = None
