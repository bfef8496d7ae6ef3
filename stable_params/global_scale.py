"""One scale for all pixels: its closed form, and the bound on learned scales that follows from it."""

import torch
from torch import Tensor

from stable_params.bounded import DownBounded
from stable_params.parameterization import require_positive
from stable_params.scale import Scale


def closed_form_scale(reconstruction: Tensor, target: Tensor) -> Scale:
    """The global scale that maximises the likelihood: sigma^2 is the mean squared error (Dehaene & Brossard, eq. 4).

    The mean is over all elements of the two tensors, of one shape. The result is 0-dimensional, float32 for float16 and
    bfloat16, else of the tensors' dtype. No square under- or overflows. If all errors are 0 the result is (0, -inf) with
    NaN gradients. Raises TypeError unless both are floating-point, ValueError when the shapes differ or are empty.
    """
    if not (reconstruction.is_floating_point() and target.is_floating_point()):
        raise TypeError(f"reconstruction and target must be floating-point tensors, got {reconstruction.dtype} and "
                        f"{target.dtype}")
    if reconstruction.shape != target.shape or not target.numel():
        raise ValueError(f"reconstruction and target must be of one shape that is not empty, got "
                         f"{tuple(reconstruction.shape)} and {tuple(target.shape)}")
    dtype = torch.promote_types(torch.promote_types(reconstruction.dtype, target.dtype), torch.float32)
    error = reconstruction.to(dtype) - target.to(dtype)
    largest = error.detach().abs().max()  # errors are squared in units of it
    unit = torch.where((largest > 0) & largest.isfinite(), largest, 1)
    mean_square = (error / unit).square().mean()
    return Scale(mean_square.sqrt() * unit, 0.5 * mean_square.log() + unit.log())


def lower_bounded(global_sigma: float, alpha: float) -> DownBounded:
    """The bound of Lin et al.'s second stage, gamma(z) >= gamma_G/alpha, for a decoder that learns a scale per pixel.

    `global_sigma` is the gamma_G that the first stage ended with, `closed_form_scale(...).sigma.item()` for instance,
    and alpha > 0 how many times below it a scale may go. The scale is gamma_G/alpha + exp p: a maximum of the two would
    have no gradient below the bound.
    Raises TypeError or ValueError unless both are numbers that are finite and above 0.
    """
    require_positive("global_sigma", global_sigma)
    require_positive("alpha", alpha)
    return DownBounded(global_sigma / alpha)
