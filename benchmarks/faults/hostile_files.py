"""Hostile lines in a run's log, and hostile files of latents: what inspect, compare and decode make of them."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.faults.chaos import ENVIRONMENT, ROOT

LINES = {
    "100,000 brackets in a log": b"[" * 100_000,
    "step 10^400 in a log": b'{"type": "train_loss", "step": 1' + b"0" * 400 + b"}",
    "a list as step in a log": b'{"type": "eval_loss", "elbo": 2.0, "step": [1]}',
    "an object as seed in a log": b'{"type": "hparam", "key": "seed", "value": {"a": 1}}',
    "invalid UTF-8 in a log": b'{"type": "hparam", "key": "seed\xff", "value": 1}',
}
MARKUP = {"type": "hparam", "key": "dataset", "value": "[/x]\x1b[31m\ud800"}


def try_readers(folder: Path, run: Path) -> Iterator[tuple[str, bool, str]]:
    """A fault, whether it was survived, and the outcome, for each; `run` is the folder of a finished run."""
    for command in ("inspect", "compare"):
        for fault, line in LINES.items():
            log = _with_line(run, folder / f"{command} {fault}", line)
            done = _call(command, log.parent)
            yield f"{fault}, {command}", _refused(done, command, "log.jsonl, line 1"), "refused by line"
        log = _with_line(run, folder / f"{command} markup", json.dumps(MARKUP).encode())
        done = _call(command, log.parent)
        yield f"markup and an escape in a name, {command}", done.returncode == 0 and "\x1b" not in done.stdout, "printed as text"
    for fault, write in {"a zip bomb as latents": write_bomb, "latents cut in half": write_half, "a pickle as latents": write_pickle}.items():
        latents, out = folder / f"{write.__name__}.npz", folder / write.__name__
        write(latents)
        done = _call("encode", run, latents, "--decode", out, "--device", "cpu")
        yield fault, _refused(done, "encode", latents.name) and not out.exists(), "refused by name, nothing written"


def write_bomb(path: Path) -> None:
    """Write a file of 2 MB whose arrays are right, but of 10^8 images and 1.2 GB."""
    images = 10**8
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, dtype, shape in (("names", "<U1", (images,)), ("z_000", "<f4", (images, 2, 1, 1))):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header.getvalue())
                for _ in range(int(np.prod(shape)) // 10**6):
                    member.write(bytes(4 * 10**6))


def write_half(path: Path) -> None:
    """Write a file of latents whose second half is missing."""
    np.savez(path, names=np.array(["a"]), z_000=np.zeros((1, 2, 1, 1), np.float32))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_pickle(path: Path) -> None:
    """Write a file of latents whose names are Python objects."""
    np.savez(path, names=np.array(["a"], object), z_000=np.zeros((1, 2, 1, 1), np.float32))


def _with_line(run: Path, copy: Path, line: bytes) -> Path:
    log = Path(shutil.copytree(run, copy)) / "log.jsonl"
    log.write_bytes(line + b"\n" + log.read_bytes())
    return log


def _call(command: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", f"vdvae.{command}", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def _refused(done: subprocess.CompletedProcess, command: str, name: str) -> bool:
    lines = done.stderr.splitlines()
    return done.returncode == 2 and len(lines) == 1 and lines[0].startswith(f"{command}: ") and name in lines[0]
