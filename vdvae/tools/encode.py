"""Images to latents and back, from the command line: `python -m vdvae.encode RUN DIR --out latents.npz`."""

import argparse
import sys
from pathlib import Path, PurePosixPath

import imageio.v3 as imageio
import numpy as np
import torch
from tqdm import tqdm

from vdvae.data.folder import FolderImages
from vdvae.data.listing import list_images
from vdvae.data.preprocess import Preprocess
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import LaunchError, StartError, World, join_world
from vdvae.ranks.randomness import own_noise
from vdvae.records.run_log import read_run
from vdvae.saving.checkpoint import restore_weights
from vdvae.settings.hparams import Hparams
from vdvae.settings.table import Effect, settings_that_change
from vdvae.tools.latents_file import LatentArrays, reading, writing

MODEL_SETTINGS = settings_that_change(Effect.MODEL, Effect.DATA)
WEIGHTS = "latest-model-ema.th"


def run_hparams(run: Path) -> Hparams:
    """The model's hyper-parameters as the run's log.jsonl has them; settings of training are left at their defaults.

    Raises FileNotFoundError for a missing log, ValueError for a log without usable hyper-parameters.
    """
    logged = read_run(run).hparams
    try:
        return Hparams(**{name: logged[name] for name in MODEL_SETTINGS if name in logged})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run}: its log does not describe a model: {error}") from error


def load_run(run: Path, device: torch.device) -> tuple[Hparams, VAE]:
    """A run's model with its averaged weights, on `device`; OSError or ValueError for what is missing or damaged."""
    if not run.is_dir():
        raise FileNotFoundError(f"RUN {run} is no folder: give a run's folder, save_dir/desc")
    hparams = run_hparams(run)
    vae = VAE(hparams)
    restore_weights(vae, str(run / WEIGHTS))
    return hparams, vae.to(device).requires_grad_(False)


def encode_folder(run: Path, folder: Path, out: Path, world: World, seed: int = 0, n_batch: int = 16) -> str:
    """Write the latents of the images below `folder` to `out` and say so; the noise depends on `seed` alone.

    Arrays of the file: z_000, z_001, ... float32 [N, zdim, res, res], drawn from the posteriors; kl float32 [N, L] in
    nats; names [N], paths below `folder`, sorted. Raises OSError or ValueError; then there is no file.
    """
    _check_out(out)
    if not folder.is_dir():
        raise FileNotFoundError(f"DIR {folder} is no folder of images")
    paths = list_images(folder)
    hparams, vae = load_run(run, world.device)
    names = [path.relative_to(folder).as_posix() for path in paths]
    with own_noise(seed, world), writing(out, names, vae.latent_shapes) as (z, kl):
        images, preprocess = FolderImages(paths, hparams.image_size), Preprocess(hparams.dataset_spec)
        for start, stop in tqdm(_batches(len(paths), n_batch), disable=None, leave=False):
            _encode_batch(vae, preprocess(images.__getitems__(list(range(start, stop))).to(world.device)).input,
                          LatentArrays([block[start:stop] for block in z], names[start:stop]), kl[start:stop])
        rate = kl.sum(axis=1, dtype=np.float64).mean()
    return f"{out}: {len(names)} images, {len(z)} blocks, {rate:.1f} nats an image"


def decode_file(run: Path, latents: Path, out: Path, world: World, seed: int = 0, n_batch: int = 16,
                temperature: float = 1.0, blocks: int | None = None) -> str:
    """Write the images of the latents in a file into the folder `out`, as PNG under the names there, and say so.

    `blocks` takes the first ones alone; blocks that are missing are drawn from their priors at `temperature`. A name
    that does not end in .png gets it appended. Raises OSError or ValueError, before anything is written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"--decode {out} is there already, and nothing is overwritten: name a new folder")
    _, vae = load_run(run, world.device)
    if blocks is not None and blocks > len(vae.latent_shapes):
        raise ValueError(f"--blocks is {blocks}, the model has {len(vae.latent_shapes)}: it must be 1 to that")
    with own_noise(seed, world), reading(latents, vae.latent_shapes) as arrays:
        targets = png_paths(arrays.names, out)
        arrays = LatentArrays(arrays.z[:blocks], arrays.names)
        for span in _batches(len(targets), n_batch):
            arrays.batch(*span)  # every batch is checked before the first image is written
        for span in tqdm(_batches(len(targets), n_batch), disable=None, leave=False):
            z = [torch.from_numpy(np.array(block)).to(world.device) for block in arrays.batch(*span)]
            for path, image in zip(targets[slice(*span)], vae.decode(z, temperature).cpu().numpy(), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                imageio.imwrite(path, image, extension=".png")
    return f"{out}: {len(targets)} images from the latents of {len(arrays.z)} of {len(vae.latent_shapes)} blocks"


def png_paths(names: list[str], out: Path) -> list[Path]:
    """Where the image of each name goes; ValueError for a name that leaves `out`, and for two that meet."""
    paths: dict[str, str] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"name {name!r} leads out of the folder: names must be paths below it")
        target = "/".join(parts) + ("" if name.lower().endswith(".png") else ".png")
        if target in paths:
            raise ValueError(f"names {paths[target]!r} and {name!r} would be one file, {target}")
        paths[target] = name
    return [out / target for target in paths]


def _check_out(out: Path) -> None:
    if out.suffix != ".npz":
        raise ValueError(f"--out {out} must end in .npz")
    if out.exists():
        raise FileExistsError(f"--out {out} is there already, and nothing is overwritten: name a new file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}")


def _encode_batch(vae: VAE, images: torch.Tensor, into: LatentArrays, kl: np.ndarray) -> None:
    """Encode one batch `[B, 3, H, W]` into its parts of the arrays; ValueError for latents that are not finite."""
    for block, latent in enumerate(vae.encode(images)):
        into.z[block][:] = latent.z.cpu().numpy()
        kl[:, block] = latent.kl.sum(dim=(1, 2, 3)).cpu().numpy()
    into.batch(0, len(kl))


def _batches(count: int, n_batch: int) -> list[tuple[int, int]]:
    """Pairs (start, stop) that cover range(count)."""
    return [(start, min(start + n_batch, count)) for start in range(0, count, n_batch)]


def _whole(minimum: int):
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least {minimum}")
        return int(text)
    return parse


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a finite number above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vdvae.encode", description="Images to latents and back.",
                                     allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help=f"a run's folder, with log.jsonl and {WEIGHTS}")
    parser.add_argument("source", metavar="DIR|LATENTS", type=Path, help="a folder of images; or an .npz")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--out", metavar="FILE.npz", type=Path, help="encode the folder into this new file")
    way.add_argument("--decode", metavar="DIR", type=Path, help="decode the .npz into this new folder, as PNG")
    parser.add_argument("--temperature", type=_temperature, help="with --decode: of the blocks that are drawn (1.0)")
    parser.add_argument("--blocks", type=_whole(1), help="with --decode: take the first so many blocks, draw the rest")
    parser.add_argument("--seed", type=_whole(0), default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--n_batch", type=_whole(1), default=16, help="images at a time (default: 16)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    return parser


def _work(args: argparse.Namespace, world: World) -> str:
    if world.size > 1:
        raise StartError(f"{world.size} ranks were started: this runs in one process")
    if args.out:
        return encode_folder(args.run, args.source, args.out, world, args.seed, args.n_batch)
    return decode_file(args.run, args.source, args.decode, world, args.seed, args.n_batch,
                       args.temperature or 1.0, args.blocks)


def main(argv: list[str] | None = None) -> int:
    """Encode or decode; returns 0, or 2 after one line on stderr for input that cannot be used."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.out and (args.temperature or args.blocks):
        parser.error("--temperature and --blocks belong to --decode")
    try:
        with join_world(args.device) as world:
            print(_work(args, world))
    except (OSError, ValueError, LaunchError, StartError) as error:
        print(f"encode: {error}", file=sys.stderr)
        return 2
    return 0
