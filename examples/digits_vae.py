"""A small VAE on scikit-learn's digits at a high learning rate, with exp and with ExpLin: python examples/digits_vae.py

Prints the last and the worst loss of each seed and draws all curves into digits_vae.png. About a minute on one core.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from stable_params import ExpLin, standard_normal_like


class PlainVAE(nn.Module):
    """The textbook: a log variance from the network, exp, and the KL to N(0, 1) in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 2 * 20))
        self.decoder = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 64))

    def latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A draw `[B, 20]` and its KL to N(0, 1) `[B, 20]`, in nats."""
        mu, logvar = self.encoder(x).chunk(2, 1)
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std), -0.5 * (1 + logvar - mu.square() - logvar.exp())

    def loss(self, x: Tensor) -> Tensor:
        """Negative ELBO per image, in nats, of images `[B, 64]` in [0, 1]."""
        z, kl = self.latent(x)
        return (binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") + kl.sum()) / len(x)


class StableVAE(PlainVAE):
    """The same network with ExpLin."""

    def latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A draw `[B, 20]` and its KL to N(0, 1) `[B, 20]`, in nats."""
        mu, logvar = self.encoder(x).chunk(2, 1)
        posterior = ExpLin().normal(mu, logvar / 2)
        return posterior.rsample(), posterior.kl(standard_normal_like(mu))


def train(model_class: type[PlainVAE], images: Tensor, seed: int, lr: float, epochs: int) -> list[float]:
    """The mean loss of each epoch."""
    torch.manual_seed(seed)
    model = model_class()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    curve = []
    for _ in range(epochs):
        losses = [update(model, optimizer, batch) for batch in images[torch.randperm(len(images))].split(128)]
        curve.append(sum(losses) / len(losses))
    return curve


def update(model: PlainVAE, optimizer: torch.optim.Optimizer, batch: Tensor) -> float:
    """One update; returns the loss before it."""
    loss = model.loss(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def worst(runs: list[list[float]]) -> list[float]:
    """The highest loss of an epoch after the first, of each run."""
    return [max(run[1:]) for run in runs]


def draw(curves: dict[str, list[list[float]]], title: str, path: Path) -> None:
    """All curves on one logarithmic axis, a colour for each model."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, runs), colour in zip(curves.items(), ("tab:red", "tab:blue")):
        for i, run in enumerate(runs):
            axes.plot(range(1, len(run) + 1), run, color=colour, alpha=0.6, label=None if i else name)
    axes.set(title=title, xlabel="epoch", ylabel="negative ELBO, nats per image", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Trains, prints and draws."""
    parser = argparse.ArgumentParser(prog="python examples/digits_vae.py", description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate of Adam (default: 0.1)")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each model (default: 10)")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the 1,797 images (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("digits_vae.png"), help="the picture (default: digits_vae.png)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images = torch.from_numpy(load_digits().data).float() / 16
    curves = {}
    for name, model_class in (("exp", PlainVAE), ("ExpLin", StableVAE)):
        curves[name] = [train(model_class, images, seed, options.lr, options.epochs) for seed in range(options.seeds)]
        for what, figures in (("last epoch", [run[-1] for run in curves[name]]), ("worst epoch after the first", worst(curves[name]))):
            print(f"{name:>6}, {what}: " + ", ".join(f"{figure:.4g}" for figure in figures), flush=True)
    draw(curves, f"Digits, Adam at {options.lr:g}, {options.seeds} seeds", options.out)


if __name__ == "__main__":
    main()
