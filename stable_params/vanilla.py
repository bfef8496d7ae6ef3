"""The KL and the draw of the original very deep VAE (Child 2020, arXiv 2011.10650), operation by operation."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stable_params.normal import Normal
from stable_params.parameterization import Parameterization
from stable_params.scale import Scale


@dataclass(frozen=True, eq=False)
class VanillaNormal(Normal):
    """Normal whose `kl` is the original's literal formula; draw, log density and temperature are Normal's.

    It squares both scales, so the result is NaN where the squares under- or overflow together: in float32 with both log
    sigmas at 45 or at -52, for instance, where the truth is 0.
    """

    def kl(self, prior: Normal) -> Tensor:
        """KL(self || prior) per element, in nats: -1/2 + l2 - l1 + (exp(l1)^2 + (m1 - m2)^2) / exp(l2)^2 / 2."""
        l1, l2 = self.scale.log_sigma, prior.scale.log_sigma
        return -0.5 + l2 - l1 + 0.5 * (l1.exp() ** 2 + (self.loc - prior.loc) ** 2) / (l2.exp() ** 2)


@dataclass(frozen=True)
class Vanilla(Parameterization):
    """sigma = exp p, log sigma = p, with the original's own KL: `normal` gives a VanillaNormal.

    The KL that counts is the posterior's, so a Vanilla posterior keeps the original's formula beside any prior.
    """

    name: ClassVar[str] = "vanilla"

    def normal(self, loc: Tensor, raw: Tensor) -> VanillaNormal:
        """The VanillaNormal with mean `loc` and the scale of `raw`; their shapes must broadcast."""
        return VanillaNormal(loc, self(raw))

    def _scale(self, raw: Tensor) -> Scale:
        return Scale(raw.exp(), raw)
