"""The code blocks of stable_params/README.md, run as they are written."""

import math
import re
from pathlib import Path

import pytest
import torch

from stable_params import PARAMETERIZATIONS, ExpLin, parse_parameterization

README = (Path(__file__).resolve().parents[2] / "stable_params" / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLE = BLOCKS[0]


def given(output: torch.Tensor) -> dict:
    """The names that a reader has: images, an encoder, which returns `output` for them, and a decoder."""
    return {"x": torch.rand(len(output), 3), "encoder": lambda x: output, "decoder": lambda z: torch.zeros(len(z), 6)}


def test_the_readme_begins_with_an_example_of_fifteen_lines_that_trains():
    assert README.index(EXAMPLE) < 600 and len(EXAMPLE.splitlines()) <= 16
    exec(EXAMPLE, names := {})
    assert names["rate"].shape == (128,) and names["loss"].isfinite()


def test_every_block_runs_in_order_and_the_kls_are_finite():
    pyro = pytest.importorskip("pyro")
    names = given(torch.randn(5, 8)) | {"torch": torch, "ExpLin": ExpLin}
    exec("mu, logvar = encoder(x).chunk(2, 1); z = torch.zeros_like(mu)", names)
    for block in BLOCKS[1:]:
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
