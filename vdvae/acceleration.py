"""What makes training faster or smaller and leaves what it computes: settled for the device, put in place, told."""

from dataclasses import replace

import torch

from vdvae.hparams import Hparams
from vdvae.hparams_checks import HparamsError


def settled(hparams: Hparams, device: torch.device, ranks: int = 1) -> Hparams:
    """The hyper-parameters with `precision` filled in as suits the device; raises HparamsError for what it cannot do."""
    on_cuda = device.type == "cuda"
    if hparams.precision == "tf32" and not on_cuda:
        raise HparamsError("precision is 'tf32', which GPUs have; on a CPU fp32 and bf16 are allowed")
    if hparams.cuda_graphs and not on_cuda:
        raise HparamsError("--cuda_graphs needs a GPU: leave it out on a CPU")
    if hparams.cuda_graphs and ranks > 1:
        raise HparamsError(f"--cuda_graphs is for one rank, there are {ranks}: leave it out")
    precision = hparams.precision or ("bf16" if _has_bf16(device) and not hparams.plain else "fp32")
    return replace(hparams, precision=precision)


def set_float32_precision(hparams: Hparams) -> None:
    """Float32 on a GPU means float32, unless tf32 was asked for: PyTorch's own default is TF32 in convolutions."""
    torch.backends.cudnn.allow_tf32 = hparams.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = hparams.precision == "tf32"


def memory_format(hparams: Hparams) -> torch.memory_format:
    """Layout of the activations: channels last under bf16, where convolutions are faster in it."""
    return torch.channels_last if hparams.precision == "bf16" else torch.contiguous_format


def described(hparams: Hparams) -> str:
    """One line for the log: what is on."""
    parts = [f"convolutions in {hparams.precision}"]
    parts += ["channels last"] if memory_format(hparams) == torch.channels_last else []
    switches = ("compile", "cuda_graphs", "checkpoint_blocks", "compress_gradients")
    parts += [name for name in switches if getattr(hparams, name)]
    parts += [f"batches in {hparams.accumulate_steps} parts"] if hparams.accumulate_steps > 1 else []
    return "acceleration: " + ("plain, " if hparams.plain else "") + ", ".join(parts)


def _has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself; emulated, they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
