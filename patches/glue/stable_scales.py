"""Uses the scales of stable_params in this model: the flags, the log sigmas and the KL of its blocks."""

import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import torch
from torch import Tensor


def _load_vendored() -> None:
    """Import the copy of stable_params beside this file, whose folder need not be on the search path."""
    file = Path(__file__).with_name("stable_params") / "__init__.py"
    if not file.is_file():
        raise ModuleNotFoundError("stable_params is not installed and there is no copy of it beside stable_scales.py")
    spec = spec_from_file_location("stable_params", file)
    sys.modules["stable_params"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["stable_params"])


if find_spec("stable_params") is None:
    _load_vendored()

from stable_params import Constant, Exp, Vanilla, parse_parameterization  # noqa: E402

VANILLA = "posterior vanilla, prior vanilla"


def add_scale_arguments(parser: ArgumentParser) -> None:
    """Add the flags of the scales. Their defaults change nothing."""
    parser.add_argument("--sigma_param", type=_flag, default="vanilla",
                        help="scale of all latents: vanilla, exp, explin, upbounded1, bounded0.1_256, ...")
    parser.add_argument("--posterior_sigma_param", type=_flag, default=None,
                        help="scale of the posteriors alone; by default sigma_param")
    parser.add_argument("--prior_sigma_param", type=_flag, default=None,
                        help="scale of the priors alone; by default sigma_param")
    parser.add_argument("--prior_const1", action="store_true", help="fix the scale of every prior to 1")


class Scales(torch.nn.Module):
    """Turns the networks' outputs into log sigmas, as the hyper-parameters H say; a flag may be None or missing.

    A checkpoint keeps the names of its scales, unless both are vanilla, and warns a model with others that loads it.
    Raises ValueError for an unknown parameterization, and for prior_const1 together with prior_sigma_param.
    """

    def __init__(self, H: object) -> None:
        super().__init__()
        shared, own = _value(H, "sigma_param") or "vanilla", _value(H, "prior_sigma_param")
        if _value(H, "prior_const1") and own:
            raise ValueError(f"prior_const1 fixes the prior's scale, so prior_sigma_param {own!r} must not be given")
        self.posterior = parse_parameterization(_value(H, "posterior_sigma_param") or shared)
        self.prior = Constant() if _value(H, "prior_const1") else parse_parameterization(own or shared)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        if self._names() != VANILLA:
            destination[f"{prefix}names"] = torch.tensor(list(self._names().encode()), dtype=torch.float32)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *_: object) -> None:
        saved = state_dict.get(f"{prefix}names")
        names = VANILLA if saved is None else bytes(saved.round().to(torch.uint8).tolist()).decode(errors="replace")
        if names != self._names():
            warnings.warn(f"these weights were trained with {names}, and this model has {self._names()}", stacklevel=2)

    def _names(self) -> str:
        return f"posterior {self.posterior.flag}, prior {self.prior.flag}"

    @property
    def vanilla(self) -> bool:
        """Whether the posterior is vanilla. The model then uses its own KL and not `kl`."""
        return isinstance(self.posterior, Vanilla)

    def posterior_log_sigma(self, raw: Tensor) -> Tensor:
        """log sigma of the posterior, from the network's output; with vanilla it is `raw` itself."""
        return raw if isinstance(self.posterior, Vanilla) else self.posterior(raw).log_sigma

    def prior_log_sigma(self, raw: Tensor) -> Tensor:
        """log sigma of the prior, from the network's output; with vanilla it is `raw` itself."""
        return raw if isinstance(self.prior, Vanilla) else self.prior(raw).log_sigma

    def kl(self, loc: Tensor, log_sigma: Tensor, prior_loc: Tensor, prior_log_sigma: Tensor) -> Tensor:
        """KL(posterior || prior) per element, in nats. Log sigmas of any finite size do not make it NaN."""
        return Exp().normal(loc, log_sigma).kl(Exp().normal(prior_loc, prior_log_sigma))


def _flag(text: str) -> str:
    """`text` itself; argparse shows the error if it names no parameterization."""
    try:
        parse_parameterization(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def _value(H: object, name: str) -> object:
    return H.get(name) if isinstance(H, Mapping) else getattr(H, name, None)
