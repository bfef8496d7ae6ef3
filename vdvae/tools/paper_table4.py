"""Table 4 of Dehaene & Brossard 2021 (arXiv 2106.13739): VDVAE on CIFAR-10, 300 epochs, seeds 0 to 2."""

from typing import NamedTuple

PAPER_SETTING = "The paper's figures are for the cifar10 set, 300 epochs, seeds 0 to 2, two 16 GB V100."


class PaperRow(NamedTuple):
    """Mean and standard deviation over three seeds, as printed; `nelbo` is the test NELBO in nats per dimension."""

    high_gradients: tuple[float, float]
    nan_updates: tuple[float, float]
    nelbo: tuple[float, float]


PAPER_TABLE_4 = {
    "vanilla": PaperRow((22, 9), (13, 3), (2.014, 0.009)),
    "upbounded1": PaperRow((0, 0), (0, 0), (2.020, 0.006)),
    "explin": PaperRow((47, 61), (0, 0), (2.030, 0.011)),
    "vanilla/prior_const1": PaperRow((37, 43), (14, 16), (2.009, 0.003)),
    "upbounded1/prior_const1": PaperRow((2645, 2063), (0, 0), (2.028, 0.007)),
    "explin/prior_const1": PaperRow((1, 1), (0, 0), (2.006, 0.008)),
}


def paper_row(parameterization: str) -> PaperRow | None:
    """The paper's row for a label of `RunLog.parameterization`, None without one; the original's code is Vanilla."""
    return PAPER_TABLE_4.get("vanilla" if parameterization == "original" else parameterization)
