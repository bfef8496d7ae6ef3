"""The original's four files: weights, averaged weights, optimizer, log; written whole or not at all."""

import pickle
import shutil
from pathlib import Path

import torch
from torch import nn

from vdvae.data.files import written_whole
from vdvae.records.jsonl import parse_line, read_lines
from vdvae.records.log import LOG_FILE
from vdvae.records.train_window import Counters
from vdvae.records.typed import typed
from vdvae.step.optimizer import load_optimizer_file, optimizer_file

SCALES = ".scales.names"  # a patched fork writes there which scales it was trained with


class CheckpointError(ValueError):
    """A file that cannot be restored; the message names the file and why."""


def save_checkpoint(prefix: Path, vae: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write `prefix`-model.th, -model-ema.th, -opt.th and -log.jsonl (a copy of the folder's log.jsonl).

    Raises OSError when one cannot be written; the older one stays.
    """
    files = {"model.th": vae.state_dict(), "model-ema.th": average.state_dict(), "opt.th": optimizer_file(optimizer)}
    for name, content in files.items():
        with written_whole(Path(f"{prefix}-{name}")) as partial:
            save_tensors(content, partial)
    save_log(prefix)


def save_log(prefix: Path) -> None:
    """Write `prefix`-log.jsonl, a copy of the folder's log.jsonl; raises OSError as save_checkpoint does."""
    with written_whole(Path(f"{prefix}-log.jsonl")) as partial:
        shutil.copyfile(prefix.parent / LOG_FILE, partial)


def save_tensors(content: dict, path: Path) -> None:
    """torch.save, but on a full disk it raises OSError, not RuntimeError."""
    try:
        torch.save(content, path)
    except RuntimeError as error:
        raise OSError(f"{path}: {str(error).partition(chr(10))[0]}") from error


def restore_weights(model: nn.Module, path: str) -> None:
    """Load weights saved by this project or by the original, also under DDP (`module.`) or compiled (`_orig_mod.`).

    Raises FileNotFoundError, or CheckpointError for a damaged file, the weights of another model, or NaN.
    """
    saved = load_tensors(path)
    if not isinstance(saved, dict) or not all(isinstance(value, torch.Tensor) for value in saved.values()):
        raise CheckpointError(f"{path}: not a file of weights")
    saved = {name.replace("_orig_mod.", "").removeprefix("module."): value for name, value in saved.items()
             if not name.endswith(SCALES)}
    check_shapes(model.state_dict(), saved, path)
    model.load_state_dict(saved)


def restore_optimizer(optimizer: torch.optim.Optimizer, path: str) -> None:
    """Load the optimizer's moments and step, written by PyTorch's AdamW or by apex's FusedAdam."""
    set_optimizer(optimizer, load_tensors(path), path)


def set_optimizer(optimizer: torch.optim.Optimizer, saved: dict, path: str) -> None:
    """Set the moments to `saved`, the content of `path`; raises CheckpointError if they are not of this model."""
    try:
        load_optimizer_file(optimizer, saved)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a state of this optimizer: {error}") from error


def restore_log(path: str) -> tuple[int, int, Counters]:
    """Number of updates and epoch at a log's last train line (this project's or the original's), and its counters.

    Our lines give the index of the last update and cumulative counters. The original writes its last line when it saves;
    the line gives the number of updates itself, and has no such counters, so they start at 0.
    """
    last: dict = {}

    def take(line: bytes) -> None:
        nonlocal last
        record = parse_line(line)
        if record.get("type") == "train_loss" and typed(int, record.get("step"), "step") >= last.get("step", 0):
            last = record

    try:
        read_lines(_existing(path), take)
        if not last:
            raise ValueError(f"{path}: no train_loss line to continue from")
        counters, epoch = Counters.of_line(last), typed(int, last.get("epoch"), "epoch")
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return last["step"] + ("total_skipped_updates" in last), epoch, counters


def named_tensors(tree: object, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested dicts and lists, by their places, such as optimizer.state.3.exp_avg."""
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    places = (named_tensors(value, f"{name}.{key}" if name else str(key)) for key, value in items)
    return {place: tensor for each in places for place, tensor in each.items()}


def check_shapes(expected: dict, found: dict, path: str | Path) -> None:
    """Raise CheckpointError unless the tensors of two trees (see named_tensors) have the same names and shapes."""
    expected, found = ({name: list(tensor.shape) for name, tensor in named_tensors(tree).items()} for tree in (expected, found))
    if found != expected:
        raise CheckpointError(f"{path}: the weights of another model: {_difference(expected, found)}")


def load_tensors(path: str):
    """What torch.save wrote, and no code; raises CheckpointError for other files, and for tensors with NaN or Inf."""
    content = _read(path)
    bad = [f"{name} is not finite" for name, tensor in named_tensors(content).items() if not _is_finite(tensor)]
    if bad:
        raise CheckpointError(f"{path}: {_first(bad)}")
    return content


def _is_finite(tensor: torch.Tensor) -> bool:
    try:
        return bool(tensor.isfinite().all())
    except RuntimeError:  # sparse or quantized, as no weights of this model are
        return False


def _read(path: str):
    existing = _existing(path)
    try:
        return torch.load(existing, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, OSError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: damaged, or not a checkpoint of tensors: {reason}") from error


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    return Path(path)


def _difference(expected: dict, found: dict) -> str:
    """The first few names that are missing, unexpected or of another shape."""
    words = [f"{name} is missing" for name in expected if name not in found]
    words += [f"{name} is unknown here" for name in found if name not in expected]
    words += [f"{name} is {found[name]}, must be {shape}" for name, shape in expected.items()
              if name in found and found[name] != shape]
    return _first(words)


def _first(words: list[str]) -> str:
    return "; ".join(words[:3]) + (f"; and {len(words) - 3} more" if len(words) > 3 else "")
