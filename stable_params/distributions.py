"""The bridge to torch.distributions: a Normal that carries log sigma and computes from it, and its KL."""

import math
from typing import Self

import torch
from torch import Size, Tensor, distributions
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from stable_params.normal import Normal
from stable_params.parameterization import Parameterization
from stable_params.scale import Scale


class StableNormal(distributions.Normal):
    """torch.distributions.Normal with a Scale: `scale` is sigma, as there, and `log_scale` its logarithm.

    `log_prob`, `entropy` and `kl_divergence` against any Normal read log_scale, `cdf` and `icdf` too; they are finite
    where sigma under- or overflows. `sample`, `rsample` and the moments are those of torch.distributions.Normal.

    loc (floating-point tensor or float) and the fields of `scale` are broadcast to `batch_shape`. Raises TypeError when
    loc is an integer or complex tensor or scale no Scale, and ValueError when the shapes do not broadcast. With
    validation (`validate_args`, on by default) also ValueError when loc is NaN, sigma NaN or negative, or log_scale NaN
    or -inf; sigma may be 0.
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.nonnegative,
        "log_scale": constraints.greater_than(-math.inf),
    }

    def __init__(self, loc: Tensor | float, scale: Scale, validate_args: bool | None = None) -> None:
        if not isinstance(scale, Scale):
            raise TypeError(f"scale must be a Scale, as a parameterization returns it, got {type(scale).__name__}")
        if isinstance(loc, Tensor) and not loc.is_floating_point():
            raise TypeError(f"loc must be a floating-point tensor, got a tensor of {loc.dtype}")
        loc, sigma, self.log_scale = _broadcast(loc, scale)
        super().__init__(loc, sigma, validate_args=validate_args)

    @classmethod
    def from_raw(
        cls, loc: Tensor | float, raw: Tensor, parameterization: Parameterization, validate_args: bool | None = None
    ) -> Self:
        """The distribution with mean `loc` and the scale that the parameterization gives to a network's output `raw`.

        Raises TypeError when raw is not a floating-point tensor or parameterization not a Parameterization.
        """
        if not isinstance(parameterization, Parameterization):
            raise TypeError(f"parameterization must be a Parameterization, got {parameterization!r}")
        return cls(loc, parameterization(raw), validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Self | None = None) -> Self:
        """The same distribution with its tensors expanded to `batch_shape`; nothing is copied."""
        new = self._get_checked_instance(StableNormal, _instance)
        new.log_scale = self.log_scale.expand(batch_shape)
        return super().expand(batch_shape, _instance=new)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at `value` in nats, of the broadcast shape."""
        if self._validate_args:
            self._validate_sample(value)
        return _normal(self).log_prob(value)

    def entropy(self) -> Tensor:
        """1/2 + log(2 pi)/2 + log sigma, in nats."""
        return self.log_scale + (0.5 + 0.5 * math.log(2 * math.pi))

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a draw up to `value`; small ones keep their digits."""
        if self._validate_args:
            self._validate_sample(value)
        inverse_root = torch.exp(-0.5 * self.log_scale)
        return 0.5 * torch.erfc((self.loc - value) * inverse_root * inverse_root * math.sqrt(0.5))

    def icdf(self, value: Tensor) -> Tensor:
        """The point up to which a draw has probability `value`, in [0, 1]."""
        root = torch.exp(0.5 * self.log_scale)
        return self.loc + torch.erfinv(2 * value - 1) * math.sqrt(2) * root * root


@distributions.register_kl(StableNormal, StableNormal)
@distributions.register_kl(StableNormal, distributions.Normal)
@distributions.register_kl(distributions.Normal, StableNormal)
def _kl(posterior: distributions.Normal, prior: distributions.Normal) -> Tensor:
    return _normal(posterior).kl(_normal(prior))


def _normal(distribution: distributions.Normal) -> Normal:
    carries_log = isinstance(distribution, StableNormal)
    log_sigma = distribution.log_scale if carries_log else distribution.scale.log()
    return Normal(distribution.loc, Scale(distribution.scale, log_sigma))


def _broadcast(loc: Tensor | float, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    try:
        return broadcast_all(loc, *scale)
    except RuntimeError as error:
        tensors = {"loc": torch.as_tensor(loc), "sigma": scale.sigma, "log_sigma": scale.log_sigma}
        listed = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes do not broadcast: {listed}") from error
