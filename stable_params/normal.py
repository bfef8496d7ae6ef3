"""Diagonal normal distribution whose KL divergence, draw and log density start from (loc, Scale), never from raw."""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Self

import torch
from torch import Size, Tensor
from torch.nn.functional import hardtanh

from stable_params.scale import Scale


class ShapeError(ValueError, RuntimeError):
    """Shapes that do not broadcast; a RuntimeError too, which is what torch raises for them."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Independent normals with mean `loc` and standard deviation `scale.sigma`, elementwise.

    `loc` is a floating-point tensor, or a number that counts for all elements. Results have the shape to which the
    tensors broadcast and the dtype that torch's type promotion gives: float32 in is float32 out. `kl` and `log_prob`
    read log sigma alone: they give no NaN for finite log sigmas and a finite distance from the mean. The methods raise
    ShapeError (a ValueError and a RuntimeError) that names the shapes which do not broadcast, and TypeError that names
    an argument of the wrong kind.
    """

    loc: Tensor
    scale: Scale

    def __post_init__(self) -> None:
        if not isinstance(self.scale, Scale):
            raise TypeError(f"scale must be a Scale, as a parameterization returns it, got {type(self.scale).__name__}")
        if isinstance(self.loc, Real):
            object.__setattr__(self, "loc", self.scale.log_sigma.new_full((), float(self.loc)))

    def kl(self, prior: "Normal") -> Tensor:
        """KL(self || prior) per element, in nats, of the broadcast shape (Dehaene & Brossard 2021, eq. 8).

        In float32 on a CPU the error is within 4 ULP beside what half an ULP (2^-24 of its magnitude) in each argument
        causes, wherever sigma2 is a normal number; sigma1 may under- or overflow. For a CUDA GPU 12 ULP are derived and not
        yet measured: CUDA documents an error of exp of up to 2 ULP, and the KL has its square. Equal normals have KL 0
        exactly. Where sigma2 is smaller the distance of the means counts too little, see `standardized`. The value is +inf
        where twice the true value overflows, the gradient by log sigma2 where the squared distance of the means divided by
        sigma2 does.
        """
        if not isinstance(prior, Normal):
            raise TypeError(f"prior must be a stable_params.Normal, got {kind(prior)}; "
                            "kl_divergence takes torch.distributions.Normal, with a StableNormal")
        broadcast_shape(loc=self.loc, sigma=self.scale.log_sigma, prior_loc=prior.loc, prior_sigma=prior.scale.log_sigma)
        r = self.scale.log_sigma - prior.scale.log_sigma
        x = standardized(self.loc - prior.loc, prior.scale.log_sigma)
        # eq. 8: log(sigma2/sigma1) + (sigma1^2 + (loc1 - loc2)^2)/(2 sigma2^2) - 1/2 is (exp(2r) - 1 - 2r)/2 + x^2/2
        return expm1_minus_x(2 * r) / 2 + x.square() / 2

    def rsample(self, eps: Tensor | None = None) -> Tensor:
        """The draw sigma * eps + loc, differentiable in loc and sigma.

        eps is standard-normal noise that broadcasts against loc and sigma. Without it the noise is drawn once from
        torch's global generator, in the broadcast shape of loc and sigma and the dtype of loc.
        """
        if eps is None:
            eps = torch.randn_like(self.mean, memory_format=torch.contiguous_format)
        else:
            broadcast_shape(loc=self.loc, sigma=self.scale.sigma, eps=eps)
        return self.scale.sigma * eps + self.loc

    def sample(self, eps: Tensor | None = None) -> Tensor:
        """The draw of `rsample`, without a graph."""
        with torch.no_grad():
            return self.rsample(eps)

    def log_prob(self, value: Tensor | float) -> Tensor:
        """Log density at `value` per element, in nats, of the broadcast shape: -x^2/2 - log sigma - log(2 pi)/2.

        x is (value - loc)/sigma. The error, measured as that of `kl`, is within 4 ULP of the largest of the three terms on
        a CPU; 12 are derived for a CUDA GPU.
        """
        value = torch.as_tensor(value, device=self.loc.device)
        if not (value.is_floating_point() or value.is_complex()):
            value = value.to(self.loc.dtype)
        broadcast_shape(loc=self.loc, sigma=self.scale.log_sigma, value=value)
        x = standardized(value - self.loc, self.scale.log_sigma)
        return -x / 2 * x - self.scale.log_sigma - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        """log sigma + (1 + log(2 pi))/2, in nats, of the broadcast shape."""
        shape = broadcast_shape(loc=self.loc, sigma=self.scale.log_sigma)
        return self.scale.log_sigma.expand(shape) + 0.5 * (1 + math.log(2 * math.pi))

    @property
    def mean(self) -> Tensor:
        """`loc`, of the broadcast shape."""
        return self.loc.expand(broadcast_shape(loc=self.loc, sigma=self.scale.sigma))

    @property
    def stddev(self) -> Tensor:
        """sigma, of the broadcast shape."""
        return self.scale.sigma.expand(broadcast_shape(loc=self.loc, sigma=self.scale.sigma))

    def tempered(self, temperature: float) -> "Normal":
        """The same mean with sigma multiplied by `temperature`; ValueError unless that is finite and above 0."""
        return replace(self, scale=self.scale.tempered(temperature))

    def detach(self) -> Self:
        """The same tensors without their graph; nothing is copied."""
        return replace(self, loc=self.loc.detach(), scale=self.scale.detach())


def standard_normal_like(tensor: Tensor) -> Normal:
    """N(0, 1) of the shape, dtype and device of a floating-point tensor."""
    return Normal(torch.zeros_like(tensor), Scale(torch.ones_like(tensor), torch.zeros_like(tensor)))


def expm1_minus_x(x: Tensor) -> Tensor:
    """expm1(x) - x elementwise, computed in float64, of x's shape and dtype; the derivative is expm1(x).

    expm1(x) is about x and the result about x^2/2, so float64's 53 bits leave float32's 24 down to |x| = 2^-28, where the
    result is 7e-18. Below, and for a float64 x, the relative error is 2^-52/|x|. Apple's GPUs (device "mps") have no
    float64: there x is computed in its own dtype, with a relative error of up to 2^-23/|x|.
    x = -inf gives +inf, x = +inf gives NaN (inf - inf), NaN is NaN.
    """
    wide = x if x.device.type == "mps" else x.double()
    return (wide.expm1() - wide).to(x.dtype)


def standardized(distance: Tensor, log_sigma: Tensor) -> Tensor:
    """distance/sigma, of the broadcast shape, with 1/sigma kept finite: at most e^88 in float32.

    So a distance of 0 is 0 however small sigma is. For log sigma below -88 any other distance comes out too small. Code
    that torch.compile makes for a CUDA GPU has 0 where 1/sigma is subnormal (log sigma above 87.3).
    """
    largest = math.floor(math.log(torch.finfo(log_sigma.dtype).max))
    return distance * torch.exp(-hardtanh(log_sigma, -largest, math.inf))


def broadcast_shape(**tensors: Tensor) -> Size:
    """The shape that the named floating-point tensors broadcast to; ShapeError and TypeError name what does not fit."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {kind(tensor)}")
    try:
        return Size(torch.broadcast_shapes(*(tensor.shape for tensor in tensors.values())))
    except RuntimeError as error:
        listed = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(f"shapes do not broadcast: {listed}") from error


def kind(value: object) -> str:
    """What an argument of the wrong kind is, for an error message."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    return repr(value) if isinstance(value, (Real, tuple, list, str)) else f"{type(value).__module__}.{type(value).__name__}"
