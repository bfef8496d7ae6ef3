"""What makes training faster or smaller and changes only rounding: precision, memory layout, compiled parts."""

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

from vdvae.model.vae import VAE
from vdvae.settings.checks import HparamsError
from vdvae.settings.hparams import Hparams

SHAPES = 64  # blocks share their code, which is compiled once for each shape: the largest number of shapes


def for_device(hparams: Hparams, device: torch.device, ranks: int = 1) -> Hparams:
    """The hyper-parameters with `precision` filled in as suits the device; raises HparamsError for what it cannot do."""
    on_cuda = device.type == "cuda"
    if hparams.precision == "tf32" and not on_cuda:
        raise HparamsError("precision is 'tf32', which GPUs have; on a CPU fp32 and bf16 are allowed")
    if hparams.cuda_graphs and not on_cuda:
        raise HparamsError("--cuda_graphs needs a GPU: leave it out on a CPU")
    if hparams.compress_gradients and ranks == 1:
        raise HparamsError("--compress_gradients is for gradients sent between ranks, there is one rank: leave it out")
    if hparams.compile:
        _check_compiler(device)
    precision = hparams.precision or ("bf16" if _has_bf16(device) and not hparams.plain else "fp32")
    return replace(hparams, precision=precision)


def allow_tf32(allowed: bool) -> None:
    """Set whether float32 products on a GPU may round to TF32; PyTorch's default lets convolutions do so."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


@contextmanager
def tf32_in_training(precision: str | None) -> Iterator[None]:
    """Use TF32 in the block if `precision` is tf32; after it float32, for optimizer, evaluation and samples."""
    allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        allow_tf32(False)


def choose_kernels(deterministic: bool, device: torch.device) -> None:
    """On a GPU, kernels that add in a fixed order if `deterministic`, else cuDNN's fastest, tried out for each shape.

    Call it before the first kernel runs: cuBLAS reads its variable once. A CPU adds in a fixed order anyway.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it PyTorch refuses deterministic products
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = not deterministic


def memory_format(hparams: Hparams) -> torch.memory_format:
    """Layout of the activations: channels last under bf16, where convolutions are faster in it."""
    return torch.channels_last if hparams.precision == "bf16" else torch.contiguous_format


def acceleration_line(hparams: Hparams) -> str:
    """One line for the log that names what is on."""
    parts = [f"convolutions in {hparams.precision}"]
    parts += ["channels last"] if memory_format(hparams) == torch.channels_last else []
    switches = ("compile", "cuda_graphs", "deterministic", "checkpoint_blocks", "compress_gradients")
    parts += [name for name in switches if getattr(hparams, name)]
    parts += [f"batches in {hparams.accumulate_steps} parts"] if hparams.accumulate_steps > 1 else []
    return "acceleration: " + ("plain, " if hparams.plain else "") + ", ".join(parts)


def compile_parts(vae: VAE) -> None:
    """Compile each block and the likelihood with torch.compile; names in the state dict and the noise for a seed stay.

    The first forward and backward pass compiles: about a minute for each shape of block on a CPU.
    """
    keep_compiled_code_apart()
    _allow_shapes(torch._dynamo.config)
    how = {"fullgraph": True, "dynamic": False, "options": {"fallback_random": True}}  # the generator's own noise
    for block in (*vae.encoder.enc_blocks, *vae.decoder.dec_blocks):
        block.compile(**how)
    likelihood = vae.decoder.out_net
    likelihood.nll = torch.compile(likelihood.nll, **how)


def _allow_shapes(config: ModuleType) -> None:
    """Let PyTorch compile code for SHAPES shapes. The limit has no public name, and PyTorch 2.6 has another one."""
    setattr(config, "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit", SHAPES)


def keep_compiled_code_apart() -> None:
    """Give each instruction set of the CPU a cache of compiled code of its own, unless TORCHINDUCTOR_CACHE_DIR is set.

    PyTorch 2.13 keeps all in one folder. With ATEN_CPU_CAPABILITY=avx2 it takes code from there that was made for
    AVX-512, of which only half of each vector is computed: the rest of the result is whatever lay in memory.
    """
    folder = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}_{torch.backends.cpu.get_cpu_capability()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def _check_compiler(device: torch.device) -> None:
    """Raise HparamsError if torch.compile lacks its compiler: Triton for a GPU, g++ or $CXX for a CPU."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cuda" and find_spec("triton") is None:
        raise HparamsError("--compile needs the package triton on a GPU, and it is not there: install it, or leave "
                           "--compile out")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise HparamsError(f"--compile needs a C++ compiler, and {compiler} is not there: install g++, set CXX, or "
                           "leave --compile out")


def _has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself; emulated, they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # without public names; one that is gone answers no
    return any(getattr(torch.cpu, name, bool)() for name in asks)
