"""Scale parameterizations of a normal distribution that do not blow up, with its KL, draw and log density."""

from stable_params.bounded import Bounded, DownBounded, UpBounded
from stable_params.constant import Constant
from stable_params.exponential import Exp, ExpLin, NaiveExp
from stable_params.normal import Normal
from stable_params.parameterization import Parameterization
from stable_params.parse import PARAMETERIZATIONS, parse_parameterization
from stable_params.scale import Scale
from stable_params.vanilla import Vanilla, VanillaNormal

__all__ = [
    "PARAMETERIZATIONS",
    "Bounded",
    "Constant",
    "DownBounded",
    "Exp",
    "ExpLin",
    "NaiveExp",
    "Normal",
    "Parameterization",
    "Scale",
    "UpBounded",
    "Vanilla",
    "VanillaNormal",
    "parse_parameterization",
]
