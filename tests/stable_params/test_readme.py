"""The code blocks of stable_params/README.md, run as they are written."""

import math
import re
from pathlib import Path

import pyro
import pytest
import torch

from stable_params import PARAMETERIZATIONS, parse_parameterization

README = (Path(__file__).resolve().parents[2] / "stable_params" / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPE = BLOCKS[0]


def given(output: torch.Tensor) -> dict:
    """The names that a reader has: images, an encoder, which returns `output` for them, and a decoder."""
    return {"x": torch.rand(len(output), 3), "encoder": lambda x: output, "decoder": lambda z: torch.zeros(len(z), 6)}


def test_the_recipe_is_three_lines_after_the_encoder():
    before, after = RECIPE.split("mu, logvar = encoder(x).chunk(2, 1)\n")
    assert len(after.splitlines()) == 3 and all(" import " in f" {line} " for line in before.split("\n") if line)


def test_the_recipe_gives_the_textbook_kl_and_draw_up_to_a_scale_of_one():
    mu, logvar = torch.randn(2, 5, 4, dtype=torch.float64)
    logvar = -logvar.abs()
    names = given(torch.cat([mu, logvar], 1))
    torch.manual_seed(1)
    exec(RECIPE, names)
    torch.manual_seed(1)
    torch.testing.assert_close(names["z"], mu + (logvar / 2).exp() * torch.randn_like(mu))
    torch.testing.assert_close(names["kl"], -0.5 * (1 + logvar - mu**2 - logvar.exp()))


@pytest.mark.parametrize("extreme", [-1e4, -240.0, 240.0, 1e4])
def test_the_recipe_has_finite_values_and_gradients_at_any_output(extreme):
    output = torch.tensor([[1.0, extreme], [-3.0, extreme]], requires_grad=True)
    exec(RECIPE, names := given(output))
    [slopes] = torch.autograd.grad(names["kl"].sum() + names["z"].sum(), output)
    assert names["kl"].isfinite().all() and names["z"].isfinite().all() and slopes.isfinite().all()


def test_every_block_runs_in_order_and_the_kls_are_finite():
    names = given(torch.randn(5, 8))
    for block in BLOCKS:
        exec(block, names)
        assert names["kl"].isfinite().all()
        if "prior_raw - 1" in block:
            torch.testing.assert_close(names["kl"], torch.full((5, 4), 1 + math.expm1(-2) / 2), rtol=1e-6, atol=0)
    assert names["distortion"].shape == (5,) and names["distortion"].isfinite().all()
    assert names["second_stage"].alpha == names["gamma"].item() / 10
    trace = pyro.poutine.trace(names["guide"]).get_trace(names["x"])
    assert trace.nodes["z"]["value"].shape == (5, 4) and trace.nodes["z"]["fn"].base_dist.log_scale.shape == (5, 4)


def test_the_table_of_parameterizations_has_a_row_for_each_flag():
    flags = re.findall(r"^\| `([^`]+)` \| `\w+\(", README, re.MULTILINE)
    assert [parse_parameterization(flag) for flag in flags] == list(PARAMETERIZATIONS.values())
