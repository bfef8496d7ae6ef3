"""Images drawn from a run's model: `python -m vdvae.sample RUN --n 64 --temperature 0.8 --out samples.png`."""

import argparse
import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vdvae.data.files import filled_whole, written_whole
from vdvae.data.image_file import shown, write_image, write_png
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.saving.loaded_run import WEIGHTS, load
from vdvae.settings.hparams import Hparams
from vdvae.tools.arguments import add_computing, batches, check_new_file, check_new_folder, positive, run_alone, whole


def sample_run(run: Path, out: Path, world: World, n: int = 64, temperature: float = 1.0, seed: int = 0,
               n_batch: int = 16) -> str:
    """Draw `n` images with the run's averaged weights, write them to `out` and say so; `seed` and `n_batch` decide the noise.

    `out` becomes one sheet of what `shown` gives if it ends in .png, the array `images` [n, H, W, C], uint8 or uint16, if it
    ends in .npz, and without an ending a folder of 000000.png, 000001.png, ..., as write_image writes them. Raises OSError or
    ValueError, and then leaves nothing there.
    """
    write = _writer(out)
    vae, hparams, _ = load(run, world.device)
    with own_noise(seed, world):
        write(out, _drawn(vae, n, temperature, n_batch), hparams)
    return f"{out}: {n} images at temperature {temperature:g}, seed {seed}"


def sheet(images: np.ndarray) -> np.ndarray:
    """Images `[N, H, W, C]` row by row on one that is about as many images wide as high; black where none is left."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    _, height, width, channels = images.shape
    places = np.zeros((rows * columns, height, width, channels), images.dtype)
    places[: len(images)] = images
    return places.reshape(rows, columns, height, width, -1).swapaxes(1, 2).reshape(rows * height, columns * width, -1)


def _drawn(vae: VAE, n: int, temperature: float, n_batch: int) -> Iterator[np.ndarray]:
    for start, stop in tqdm(batches(n, n_batch), disable=None, leave=False):
        yield vae.sample(stop - start, temperature).cpu().numpy()


def _writer(out: Path):
    """The function that writes `out`, by its ending; OSError or ValueError if `out` cannot be made."""
    if out.suffix == "":
        check_new_folder("--out", out)
        return _write_folder
    if out.suffix not in (".png", ".npz"):
        raise ValueError(f"--out {out} must end in .png (one sheet) or .npz (an array), or have no ending (a folder of PNG)")
    check_new_file(out)
    return _write_sheet if out.suffix == ".png" else _write_array


def _write_sheet(out: Path, drawn: Iterator[np.ndarray], hparams: Hparams) -> None:
    with written_whole(out) as partial:
        images = np.concatenate(list(drawn))
        write_png(partial, sheet(shown(images, hparams.dataset_spec.bits, hparams.shown_channels)))


def _write_array(out: Path, drawn: Iterator[np.ndarray], _: Hparams) -> None:
    with written_whole(out) as partial, open(partial, "wb") as file:
        np.savez(file, images=np.concatenate(list(drawn)))


def _write_folder(out: Path, drawn: Iterator[np.ndarray], hparams: Hparams) -> None:
    with filled_whole(out):
        for index, image in enumerate(chain.from_iterable(drawn)):
            write_image(out / f"{index:06d}.png", image, hparams.dataset_spec.bits, hparams.shown_channels)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vdvae.sample", description="Images drawn from a run's model.",
                                     allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help=f"a run's folder, with log.jsonl and {WEIGHTS}")
    parser.add_argument("--out", metavar="FILE.png|FILE.npz|FOLDER", type=Path, required=True,
                        help="one sheet; an array `images`; or a new folder of PNG files")
    parser.add_argument("--n", type=whole(1), default=64, help="images to draw (default: 64)")
    parser.add_argument("--temperature", type=positive, default=1.0, help="factor on the priors' sigmas (default: 1.0)")
    add_computing(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw; returns 0, or 2 after one line on stderr for input that cannot be used."""
    args = _parser().parse_args(argv)
    return run_alone("sample", args.device, lambda world: sample_run(
        args.run, args.out, world, args.n, args.temperature, args.seed, args.n_batch))
