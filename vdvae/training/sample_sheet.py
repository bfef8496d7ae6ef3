"""A sheet of images: originals, reconstructions from the first latents, free samples."""

from pathlib import Path

import numpy as np
from torch import Tensor

from vdvae.data.files import written_whole
from vdvae.data.image_file import shown, write_png
from vdvae.data.preprocess import Preprocess
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.settings.hparams import Hparams
from vdvae.settings.table import SHEET_TEMPERATURES

RECONSTRUCTION_TEMPERATURE = 0.1


def sheet_rows(vae: VAE, originals: Tensor, preprocess: Preprocess, hparams: Hparams) -> list[Tensor]:
    """Rows of images `[B, H, W, C]`: the originals; reconstructions whose first k latents are the posterior's, for
    num_variables_visualize values of k, the rest drawn at temperature 0.1; samples at 1.0, 0.9, 0.8, 0.7."""
    latents = [latent.z for latent in vae.encode(preprocess(originals).input)]
    depths = np.linspace(0, 1, hparams.num_variables_visualize + 2)[1:-1] * len(latents)
    rows = [originals]
    rows += [vae.sample(len(originals), RECONSTRUCTION_TEMPERATURE, latents[: int(k)]) for k in depths]
    rows += [vae.sample(len(originals), t) for t in SHEET_TEMPERATURES[: hparams.num_temperatures_visualize]]
    return rows


def tile(rows: list[Tensor]) -> np.ndarray:
    """Rows of `[B, H, W, C]` as one image `[rows * H, B * W, C]`."""
    return np.concatenate([np.concatenate(list(row.cpu().numpy()), axis=1) for row in rows])


def write_sample_sheet(path: Path, vae: VAE, originals: Tensor, preprocess: Preprocess, hparams: Hparams,
                       world: World) -> None:
    """Draw the sheet and write it as PNG; training's random state stays as it is."""
    with own_noise(hparams.seed, world):
        rows = sheet_rows(vae, originals.to(world.device), preprocess, hparams)
    with written_whole(path) as partial:
        write_png(partial, shown(tile(rows), hparams.dataset_spec.bits, hparams.shown_channels))
