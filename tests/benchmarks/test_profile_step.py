"""The profile of an update on a small model."""

import re

from benchmarks.cost.profile_step import main
from tests.vdvae.runs import TINY


def test_the_profile_names_what_takes_the_time(capsys):
    assert main([*TINY, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"\| ([\d.]+)% \|$", printed, re.MULTILINE)]
    assert "operators of" in printed and "| aten::convolution_backward |" in printed
    assert 10 < len(shares) <= 30 and shares == sorted(shares, reverse=True) and sum(shares) < 101


def test_flags_that_train_py_would_not_take_are_refused(capsys):
    assert main(["--widht", "8"]) == 2
    assert "--widht" in capsys.readouterr().err
