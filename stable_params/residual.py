"""The residual normal of NVAE (Vahdat & Kautz 2020, arXiv 2007.03898): a posterior relative to its prior."""

from copy import copy
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from stable_params.normal import Normal, broadcast_shape, standard_normal_like
from stable_params.scale import Scale


@dataclass(frozen=True, eq=False)
class ResidualNormal(Normal):
    """The normal that `delta` is in units of `prior`: loc = loc2 + sigma2 dmu and sigma = sigma2 dsigma.

    delta is Normal(dmu, Scale of dsigma) from any parameterization, `ExpLin().normal(dmu, raw)` for instance; (loc2,
    sigma2) are prior's. `loc` and `scale` follow from the two, in the shape they broadcast to: log sigma as the sum of
    the logs, sigma as its exponential, which exists where only one of the two factors over- or underflows. As in a draw
    from the prior, a sigma2 that overflows makes loc infinite, or NaN where dmu is 0.
    Raises ValueError naming the shapes if they do not broadcast.
    """

    loc: Tensor = field(init=False)
    scale: Scale = field(init=False)
    delta: Normal
    prior: Normal

    def __post_init__(self) -> None:
        delta, prior = self.delta, self.prior
        broadcast_shape(delta_loc=delta.loc, delta_sigma=delta.scale.log_sigma,
                        prior_loc=prior.loc, prior_sigma=prior.scale.log_sigma)
        log_sigma = prior.scale.log_sigma + delta.scale.log_sigma
        object.__setattr__(self, "loc", prior.rsample(delta.loc))
        object.__setattr__(self, "scale", Scale(log_sigma.exp(), log_sigma))

    def kl(self, prior: Normal) -> Tensor:
        """KL(self || prior) per element, in nats, of the broadcast shape.

        For the prior that self was made from (that very object) it is KL(delta || N(0, 1)): nothing is divided by sigma2
        and no gradient reaches the prior. For any other it is the KL of loc and scale.
        """
        if prior is not self.prior:
            return super().kl(prior)
        return self.delta.kl(standard_normal_like(self.delta.loc)).expand(self.loc.shape)

    def tempered(self, temperature: float) -> Self:
        """The same mean with sigma multiplied by `temperature`; ValueError unless that is finite and above 0."""
        return replace(self, delta=self.delta.tempered(temperature))

    def detach(self) -> Self:
        """The same tensors without their graph; nothing is copied."""
        detached = copy(self)  # not replace, which would compute loc and scale anew
        vars(detached).update({name: part.detach() for name, part in vars(self).items()})
        return detached
