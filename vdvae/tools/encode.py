"""Images to latents and back, from the command line: `python -m vdvae.encode RUN DIR --out latents.npz`."""

import argparse
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from tqdm import tqdm

from vdvae.data.files import filled_whole
from vdvae.data.image_file import MODES, write_image
from vdvae.data.images import ArrayImages, ImageSet
from vdvae.data.own.arrays import open_array
from vdvae.data.own.folder import FolderImages
from vdvae.data.own.listing import list_images
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.saving.loaded_run import WEIGHTS, load
from vdvae.settings.hparams import Hparams
from vdvae.tools.arguments import add_computing, batches, check_new_file, check_new_folder, positive, run_alone, whole
from vdvae.tools.latents_file import LatentArrays, reading, writing

_LONGEST_NAME = 250  # bytes of a part of a path, so that .png fits behind it


def encode_images(run: Path, source: Path, out: Path, world: World, seed: int = 0, n_batch: int = 16) -> str:
    """Write the latents of the images of `source` to `out` and say so; the noise depends on `seed` alone.

    `source` is a folder, whose image files are read in the format of the run's images, or a .npy array that has it.
    Arrays of the file: z_000, z_001, ... float32 [N, zdim, res, res], drawn from the posteriors; kl float32 [N, L] in
    nats; names [N], paths below `source`, sorted, or numbers in the array. Raises OSError or ValueError; then there is no file.
    """
    _check_out(out)
    vae, hparams, preprocess = load(run, world.device)
    names, images = _images(source, hparams)
    with own_noise(seed, world), writing(out, names, vae.latent_shapes) as (z, kl):
        for start, stop in tqdm(batches(len(names), n_batch), disable=None, leave=False):
            _encode_batch(vae, preprocess(images.__getitems__(list(range(start, stop))).to(world.device)).input,
                          LatentArrays([block[start:stop] for block in z], names[start:stop]), kl[start:stop])
        rate = kl.sum(axis=1, dtype=np.float64).mean()
    return f"{out}: {len(names)} images, {len(z)} blocks, {rate:.1f} nats an image"


def decode_file(run: Path, latents: Path, out: Path, world: World, seed: int = 0, n_batch: int = 16,
                temperature: float = 1.0, blocks: int | None = None) -> str:
    """Write the images of the latents in a file into the folder `out`, as PNG under the names there, and say so.

    `blocks` takes the first ones alone; blocks that are missing are drawn from their priors at `temperature`. A name
    that does not end in .png gets it appended. Images that PNG cannot hold get a .npy beside. Raises OSError or ValueError, and
    then leaves nothing there.
    """
    check_new_folder("--decode", out)
    vae, hparams, _ = load(run, world.device)
    if blocks is not None and blocks > len(vae.latent_shapes):
        raise ValueError(f"--blocks is {blocks}, the model has {len(vae.latent_shapes)}: it must be 1 to that")
    with own_noise(seed, world), reading(latents, vae.latent_shapes) as arrays, filled_whole(out):
        targets = png_paths(arrays.names, out)
        arrays = LatentArrays(arrays.z[:blocks], arrays.names)
        for span in batches(len(targets), n_batch):
            arrays.batch(*span)  # every batch is checked before the first image is written
        for span in tqdm(batches(len(targets), n_batch), disable=None, leave=False):
            z = [torch.from_numpy(np.array(block)).to(world.device) for block in arrays.batch(*span)]
            for path, image in zip(targets[slice(*span)], vae.decode(z, temperature).cpu().numpy(), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, image, hparams.dataset_spec.bits, hparams.shown_channels)
    return f"{out}: {len(targets)} images from the latents of {len(arrays.z)} of {len(vae.latent_shapes)} blocks"


def png_paths(names: list[str], out: Path) -> list[Path]:
    """Where the image of each name goes; ValueError for a name that leaves `out` or is no path, and for two that meet."""
    paths: dict[str, str] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"name {name!r} leads out of the folder: names must be paths below it")
        if "\0" in name or any(len(part.encode(errors="surrogateescape")) > _LONGEST_NAME for part in parts):
            raise ValueError(f"name {name[:60]!r} is no path: it has a zero byte or a part of more than {_LONGEST_NAME} bytes")
        target = "/".join(parts) + ("" if name.lower().endswith(".png") else ".png")
        if target in paths:
            raise ValueError(f"names {paths[target]!r} and {name!r} would be one file, {target}")
        paths[target] = name
    for target, name in paths.items():
        for parent in map(str, PurePosixPath(target).parents):
            if parent in paths:
                raise ValueError(f"name {name!r} needs a folder {parent}, which is the file of {paths[parent]!r}")
    return [out / target for target in paths]


def _images(source: Path, hparams: Hparams) -> tuple[list[str], ImageSet]:
    """Names and images to encode; OSError or ValueError if they do not fit the run."""
    size, spec = hparams.image_size, hparams.dataset_spec
    if source.suffix == ".npy":
        images = ArrayImages(open_array(source, size, spec.channels, spec.bits))
        return [f"{index:06d}" for index in range(len(images))], images
    if not source.is_dir():
        raise FileNotFoundError(f"DIR {source} is no folder of images")
    if spec.channels not in MODES:
        raise ValueError(f"the run's images have {spec.channels} channels, which image files do not have: give a .npy array")
    paths = list_images(source)
    return [path.relative_to(source).as_posix() for path in paths], FolderImages(paths, size, spec.channels, spec.bits)


def _check_out(out: Path) -> None:
    if out.suffix != ".npz":
        raise ValueError(f"--out {out} must end in .npz")
    check_new_file(out)


def _encode_batch(vae: VAE, images: torch.Tensor, into: LatentArrays, kl: np.ndarray) -> None:
    """Encode one batch `[B, C, H, W]` into its parts of the arrays; ValueError for latents that are not finite."""
    for block, latent in enumerate(vae.encode(images)):
        into.z[block][:] = latent.z.cpu().numpy()
        kl[:, block] = latent.kl.sum(dim=(1, 2, 3)).cpu().numpy()
    into.batch(0, len(kl))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vdvae.encode", description="Images to latents and back.",
                                     allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help=f"a run's folder, with log.jsonl and {WEIGHTS}")
    parser.add_argument("source", metavar="DIR|LATENTS", type=Path, help="a folder of images, or an array .npy; or an .npz")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--out", metavar="FILE.npz", type=Path, help="encode the images into this new file")
    way.add_argument("--decode", metavar="DIR", type=Path, help="decode the .npz into this new folder, as PNG")
    parser.add_argument("--temperature", type=positive, help="with --decode: of the blocks that are drawn (1.0)")
    parser.add_argument("--blocks", type=whole(1), help="with --decode: take the first so many blocks, draw the rest")
    add_computing(parser)
    return parser


def _work(args: argparse.Namespace, world: World) -> str:
    if args.out:
        return encode_images(args.run, args.source, args.out, world, args.seed, args.n_batch)
    return decode_file(args.run, args.source, args.decode, world, args.seed, args.n_batch,
                       args.temperature or 1.0, args.blocks)


def main(argv: list[str] | None = None) -> int:
    """Encode or decode; returns 0, or 2 after one line on stderr for input that cannot be used."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.out and (args.temperature or args.blocks):
        parser.error("--temperature and --blocks belong to --decode")
    return run_alone("encode", args.device, lambda world: _work(args, world))
