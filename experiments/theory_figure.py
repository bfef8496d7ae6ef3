"""The figure of docs/theory.md: the KL's gradient by what a prior emits. python -m experiments.theory_figure"""

import argparse
import sys

import torch
from matplotlib.figure import Figure

from stable_params import Bounded, Constant, Exp, ExpLin, Parameterization, UpBounded

# The posterior's scale and the prior's, by the name of the line.
PAIRS: dict[str, tuple[Parameterization, Parameterization]] = {
    "Exp, Exp (vanilla)": (Exp(), Exp()),
    "ExpLin, ExpLin": (ExpLin(), ExpLin()),
    "UpBounded 1, UpBounded 1": (UpBounded(1), UpBounded(1)),
    "ExpLin, Bounded 0.3 to 1": (ExpLin(), Bounded(0.3, 1)),
    "ExpLin, constant 1": (ExpLin(), Constant(1)),
}
STYLES = ("-", "--", ":", "-", "-")
DISTANCE, LOWEST, HIGHEST = 1.0, -60.0, 30.0
FLOAT32_MAX = torch.finfo(torch.float32).max


def gradients(posterior: Parameterization, prior: Parameterization, raw: torch.Tensor) -> list[torch.Tensor]:
    """|dK/dμ|, |dK/da| and |dK/da'| at a' = `raw` and a = 0, the means DISTANCE apart; float64, of raw's shape."""
    loc, zeros = torch.full_like(raw, DISTANCE), torch.zeros_like(raw)
    outputs = [each.clone().requires_grad_() for each in (loc, zeros, raw)]
    kl = posterior.normal(*outputs[:2]).kl(prior.normal(zeros, outputs[2]))
    found = torch.autograd.grad(kl.sum(), outputs, allow_unused=True)
    return [torch.zeros_like(raw) if each is None else each.abs() for each in found]


def draw() -> Figure:
    """A panel for each of the three derivatives, a line for each pair."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    raw = torch.linspace(LOWEST, HIGHEST, 601, dtype=torch.float64)
    for (name, pair), style in zip(PAIRS.items(), STYLES):
        for axes, gradient in zip(panels, gradients(*pair, raw)):
            axes.plot(raw, gradient, style, label=name)
    for axes, output in zip(panels, ("the posterior's mean μ", "the posterior's raw scale a", "the prior's raw scale a'")):
        axes.axhline(FLOAT32_MAX, color="black", linewidth=0.8)
        axes.set(yscale="log", ylim=(1e-3, 1e48), xlabel="the prior's raw scale a'", title=f"by {output}")
    panels[0].set_ylabel("|gradient of the KL|")
    panels[0].text(HIGHEST, FLOAT32_MAX * 3, "largest float32", ha="right", fontsize=8)
    panels[2].legend(fontsize=8, loc="upper right")
    return figure


def main(argv: list[str] | None = None) -> int:
    """Draw the figure into the file --out."""
    parser = argparse.ArgumentParser(prog="python -m experiments.theory_figure", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", default="theory.png", metavar="FILE", help="default: theory.png")
    draw().savefig(parser.parse_args(argv).out, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
