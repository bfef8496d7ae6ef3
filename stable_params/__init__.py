"""Scale parameterizations of a normal distribution that do not blow up, with its KL, draw and log density."""

from stable_params.bounded import Bounded, Constant, DownBounded, UpBounded
from stable_params.compared import HardClamp, SoftClamp, Softplus
from stable_params.distributions import StableNormal
from stable_params.exponential import Exp, ExpLin, NaiveExp
from stable_params.global_scale import closed_form_scale, lower_bounded
from stable_params.normal import Normal, ShapeError, standard_normal_like
from stable_params.parameterization import Parameterization
from stable_params.parse import PARAMETERIZATIONS, parse_parameterization
from stable_params.pixels import PixelHead
from stable_params.residual import ResidualNormal
from stable_params.scale import Scale
from stable_params.vanilla import Vanilla, VanillaNormal

__all__ = [
    "PARAMETERIZATIONS",
    "Bounded",
    "Constant",
    "DownBounded",
    "Exp",
    "ExpLin",
    "HardClamp",
    "NaiveExp",
    "Normal",
    "Parameterization",
    "PixelHead",
    "ResidualNormal",
    "Scale",
    "ShapeError",
    "SoftClamp",
    "Softplus",
    "StableNormal",
    "UpBounded",
    "Vanilla",
    "VanillaNormal",
    "closed_form_scale",
    "lower_bounded",
    "parse_parameterization",
    "standard_normal_like",
]
