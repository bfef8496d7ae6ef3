"""The scale as a softplus, the form of Efficient-VDVAE (Hazami et al. 2022, arXiv 2203.13751), with a robust log."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stable_params.parameterization import Parameterization, require_positive
from stable_params.scale import Scale


@dataclass(frozen=True)
class Softplus(Parameterization):
    """sigma = log(1 + exp(beta p))/beta; beta = log 2, Efficient-VDVAE's choice, makes it 1 at p = 0.

    Slopes: sigmoid(beta p) for sigma, at most 1; sigmoid(beta p)/sigma for log sigma, between 0 and beta. With
    T = -log(eps of the dtype), sigma is p itself above beta p = T, and log sigma is beta p - log beta below -T: each
    neglects less than eps/2, relative or absolute. So log sigma is finite wherever beta p is finite below and p above,
    though sigma underflows to 0 (in float32 below beta p = -104). beta p is rounded before it is exponentiated, which
    costs sigma up to |beta p| eps, relative. p = -inf gives (0, -inf), p = +inf gives (inf, inf), with finite
    gradients.
    Raises ValueError unless beta is finite and above 0.
    """

    beta: float
    name: ClassVar[str] = "softplus"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)

    def _scale(self, raw: Tensor) -> Scale:
        exponent, branch = raw * self.beta, -math.log(torch.finfo(raw.dtype).eps)
        # From 0 rather than negated: a softplus that underflows is then 0, not -0.
        sigma = torch.where(exponent > branch, raw, (0 - logsigmoid(-exponent)) / self.beta)
        small = exponent < -branch
        # The branch not taken gets the log of 1: the log of a sigma that underflowed has no finite gradient.
        log_sigma = torch.where(small, exponent - math.log(self.beta), sigma.masked_fill(small, 1).log())
        return Scale(sigma, log_sigma)
