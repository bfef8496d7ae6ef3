"""The bridge to torch.distributions: a Normal that carries log sigma and computes from it, and its KL."""

import math
from numbers import Real
from typing import Self

import torch
from torch import Size, Tensor, distributions
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from stable_params.normal import Normal, ShapeError, standardized, kind
from stable_params.parameterization import Parameterization
from stable_params.scale import Scale


class StableNormal(distributions.Normal):
    """torch.distributions.Normal with a Scale: `scale` is sigma, as there, and `log_scale` its logarithm.

    `log_prob`, `entropy` and `kl_divergence` against any Normal read log_scale, `cdf` and `icdf` too; they are finite
    where sigma under- or overflows. `sample`, `rsample` and the moments are those of torch.distributions.Normal.

    `loc` is a floating-point tensor or a number. `scale` is a Scale, or sigma itself as torch's Normal takes it, whose
    logarithm is taken then. All are broadcast to `batch_shape`. Raises TypeError when loc or sigma is an integer or
    complex tensor, and ShapeError (a ValueError and a RuntimeError) when the shapes do not broadcast. With validation
    (`validate_args`, on by default) also ValueError when loc is NaN, sigma is NaN or negative, or log_scale is NaN or
    -inf; the sigma of a Scale may be 0.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.nonnegative}

    def __init__(self, loc: Tensor | float, scale: Scale | Tensor | float, validate_args: bool | None = None) -> None:
        loc, sigma, self.log_scale = _broadcast(loc, scale)
        super().__init__(loc, sigma, validate_args=validate_args)
        if self._validate_args and not (self.log_scale > -math.inf).all():
            raise ValueError(f"parameter log_scale must be above -inf and not NaN, got {self.log_scale}")

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

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Self | None = None) -> Self:
        """The same distribution with its tensors expanded to `batch_shape`; nothing is copied."""
        new: Self = self._get_checked_instance(StableNormal, _instance)  # type: ignore[no-untyped-call]
        new.log_scale = self.log_scale.expand(batch_shape)
        super().expand(batch_shape, _instance=new)  # type: ignore[no-untyped-call]
        return new

    def log_prob(self, value: Tensor | float) -> Tensor:
        """Log density at `value` in nats, of the broadcast shape."""
        return _normal(self).log_prob(self._checked(value))

    def entropy(self) -> Tensor:
        """log sigma + (1 + log(2 pi))/2, in nats."""
        return _normal(self).entropy()

    def cdf(self, value: Tensor | float) -> Tensor:
        """Probability of a draw up to `value`; small ones keep their digits."""
        return 0.5 * torch.erfc(standardized(self.loc - self._checked(value), self.log_scale) * math.sqrt(0.5))

    def icdf(self, value: Tensor) -> Tensor:
        """The point up to which a draw has probability `value`, in [0, 1]."""
        info = torch.finfo(self.log_scale.dtype)
        root = (self.log_scale / 2).exp().clamp(info.tiny, info.max)  # 0 times an infinity would be NaN
        return self.loc + root * (torch.erfinv(2 * value - 1) * math.sqrt(2)) * root

    def _checked(self, value: Tensor | float) -> Tensor:
        value = torch.as_tensor(value, device=self.loc.device)
        if self._validate_args:
            self._validate_sample(value)
        return value


def _kl(posterior: distributions.Normal, prior: distributions.Normal) -> Tensor:
    return _normal(posterior).kl(_normal(prior))


for _pair in ((StableNormal, StableNormal), (StableNormal, distributions.Normal), (distributions.Normal, StableNormal)):
    distributions.register_kl(*_pair)(_kl)


def _normal(distribution: distributions.Normal) -> Normal:
    log_sigma = distribution.log_scale if isinstance(distribution, StableNormal) else distribution.scale.log()
    return Normal(distribution.loc, Scale(distribution.scale, log_sigma))


def _broadcast(loc: Tensor | float, scale: Scale | Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """loc, sigma and log sigma as floating-point tensors of one shape."""
    given = {"loc": loc, **(scale._asdict() if isinstance(scale, Scale) else {"scale": scale})}
    for name, value in given.items():
        if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.is_floating_point()):
            raise TypeError(f"{name} must be a floating-point tensor or a number, got {kind(value)}")
    try:
        loc, sigma, *logs = broadcast_all(*given.values())
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {tuple(torch.as_tensor(value).shape)}" for name, value in given.items())
        raise ShapeError(f"shapes do not broadcast: {shapes}") from error
    return loc, sigma, logs[0] if logs else sigma.log()
