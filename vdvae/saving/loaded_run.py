"""A saved run in Python: its model with the averaged weights, its hyper-parameters, its preprocessing."""

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import torch

from vdvae.data.preprocess import Preprocess
from vdvae.model.vae import VAE
from vdvae.records.run_log import read_run
from vdvae.saving.checkpoint import restore_weights
from vdvae.settings.hparams import Hparams

WEIGHTS = "latest-model-ema.th"


class LoadedRun(NamedTuple):
    """`vae(*preprocess(images))` scores images `[B, H, W, C]`, uint8 or uint16, that lie on the model's device."""

    vae: VAE  # the averaged weights, without gradients
    hparams: Hparams  # as the run's log has them
    preprocess: Preprocess


def load(run: str | Path, device: str | torch.device = "cpu") -> LoadedRun:
    """The run in the folder `run` (save_dir/desc) as it was last saved, its model on `device`.

    Raises FileNotFoundError for a folder, a log or a file of weights that is missing, ValueError for one that is damaged
    and for weights that are not those of the model in the log.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"RUN {folder} is no folder: give a run's folder, save_dir/desc")
    hparams = _logged_hparams(folder)
    vae = VAE(hparams)
    restore_weights(vae, str(folder / WEIGHTS))
    return LoadedRun(vae.to(device).requires_grad_(False).eval(), hparams, Preprocess(hparams.dataset_spec))


def _logged_hparams(folder: Path) -> Hparams:
    logged = read_run(folder).hparams
    try:
        return Hparams(**{item.name: logged[item.name] for item in fields(Hparams) if item.name in logged})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder}: its log does not describe a model: {error}") from error
