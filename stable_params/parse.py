"""From a flag such as `explin` or `bounded0.1_256` to its Parameterization."""

import difflib
import re
from dataclasses import fields

from stable_params.bounded import Bounded, DownBounded, UpBounded
from stable_params.compared import HardClamp, SoftClamp, Softplus
from stable_params.exponential import Exp, ExpLin, NaiveExp
from stable_params.parameterization import Parameterization
from stable_params.vanilla import Vanilla

# One row for each parameterization that has a flag: an instance says the class, its constants and an example flag.
_EXAMPLES = (
    *(Vanilla(), NaiveExp(), Exp(), ExpLin(), UpBounded(1), DownBounded(0.1), Bounded(0.1, 256)),
    *(Softplus(0.6931472), SoftClamp(5, 0.01), HardClamp(-15, 10)),  # of other code bases, for comparison
)
PARAMETERIZATIONS: dict[str, Parameterization] = {example.name: example for example in _EXAMPLES}

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_FLAG = re.compile(rf"(?P<name>[a-z_]*[a-z])(?P<constants>(?:{_NUMBER}(?:_{_NUMBER})*)?)", re.ASCII)


def parse_parameterization(flag: str) -> Parameterization:
    """The parameterization that `flag` spells: a lower-case name, then its constants in decimal, joined by underscores.

    For each parameterization x of the table, `parse_parameterization(x.flag) == x`. Raises TypeError when the flag is
    not a string, and ValueError for any other spelling or an impossible constant; the message names the flag, says what
    is wrong and what is allowed, and suggests the nearest name.
    """
    if not isinstance(flag, str):
        raise TypeError(f"a scale parameterization is a string, got {flag!r}")
    match = _FLAG.fullmatch(flag)
    if match is None or match["name"] not in PARAMETERIZATIONS:
        raise _bad_flag(flag, "not a known form")
    example = PARAMETERIZATIONS[match["name"]]
    constants = [float(number) for number in match["constants"].split("_") if number]
    if len(constants) != len(fields(example)):
        raise _bad_flag(flag, f"{example.name} takes {len(fields(example))} constant(s), got {len(constants)}")
    try:
        return type(example)(*constants)
    except ValueError as error:
        raise _bad_flag(flag, str(error)) from error


def _bad_flag(flag: str, reason: str) -> ValueError:
    message = f"bad scale parameterization {flag!r}: {reason}; allowed: {', '.join(map(_form, _EXAMPLES))}"
    letters = re.sub(r"[^a-z_].*", "", flag.strip().lower())
    nearest = difflib.get_close_matches(letters, PARAMETERIZATIONS, n=1)
    return ValueError(message + (f"; did you mean {PARAMETERIZATIONS[nearest[0]].flag}?" if nearest else ""))


def _form(example: Parameterization) -> str:
    placeholders = "_".join(f"<{field.name}>" for field in fields(example))
    return f"{example.name}{placeholders} (such as {example.flag})" if placeholders else example.name
