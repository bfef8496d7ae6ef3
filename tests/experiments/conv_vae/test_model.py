"""The stacked VAEs of section 7.1 against a plain one that encodes the whole batch; members keep apart."""

import pytest
import torch
from torch import Tensor, nn

from experiments.conv_vae.model import PIXEL_SCALE, ConvVae, ConvVaes, Scales
from stable_params import Constant, Exp, ExpLin, NaiveExp, UpBounded

COMBINATIONS = [Scales(ExpLin(), PIXEL_SCALE), Scales(NaiveExp(), NaiveExp()), Scales(UpBounded(1.0), Exp())]


class PlainVae(nn.Module):
    """The VAE as a reader of the paper would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1), _norm(16), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), _norm(32), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1))  # fmt: skip
        self.loc, self.raw = nn.Conv2d(64, 100, 4), nn.Conv2d(64, 100, 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(100, 64, 4), nn.ConvTranspose2d(64, 32, 4, 2, 1), _norm(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), _norm(16), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1))  # fmt: skip
        self.pixel_raw = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, eps: Tensor, scales: Scales) -> Tensor:
        hidden = self.encoder(images)
        posterior = scales.encoded.normal(self.loc(hidden).flatten(1), self.raw(hidden).flatten(1))
        kl = posterior.kl(Constant().normal(torch.zeros_like(eps), eps)).sum(1)
        decoded = self.decoder(posterior.rsample(eps)[:, :, None, None])
        pixels = scales.decoded.normal(decoded, self.pixel_raw)
        return kl - pixels.log_prob(images).flatten(1).sum(1)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def plain(seed: int) -> PlainVae:
    torch.manual_seed(seed)
    return PlainVae()


def batch(seed: int, size: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten images, the indices of a batch in which each of them occurs another number of times, and noise."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.cat([torch.arange(10), torch.randint(0, 4, (size - 10,), generator=generator)])
    return torch.rand(10, 3, 32, 32, generator=generator), drawn, torch.randn(size, 100, generator=generator)


def stacked(parts: list[tuple]) -> list[torch.Tensor]:
    return [torch.stack(part) for part in zip(*parts)]


def test_the_layers_are_those_that_the_paper_prints():
    vae = ConvVae(COMBINATIONS[0])
    sizes = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in vae.named_children()}
    encoder = (3 * 16 * 16 + 16) + 2 * 16 + (16 * 32 * 16 + 32) + 2 * 32 + (32 * 64 * 16 + 64)
    decoder = (100 * 64 * 16 + 64) + (64 * 32 * 16 + 32) + 2 * 32 + (32 * 16 * 16 + 16) + 2 * 16 + (16 * 3 * 16 + 3)
    head = 64 * 100 * 16 + 100
    assert sizes == {"encoder": encoder, "loc": head, "raw": head, "decoder": decoder}
    assert sum(parameter.numel() for parameter in vae.parameters()) == 391_276
    kinds = [type(layer).__name__ for layer in vae.decoder]
    assert kinds == ["ConvTranspose2d", "ConvTranspose2d", "BatchNorm2d", "ReLU", "ConvTranspose2d", "BatchNorm2d", "ReLU",
                     "ConvTranspose2d"]
    assert PIXEL_SCALE.omega == 1.0 and PIXEL_SCALE.alpha == pytest.approx(1 / (256 * 12**0.5))


@pytest.mark.parametrize("scales", COMBINATIONS)
def test_loss_and_gradients_are_those_of_the_plain_model_on_the_whole_batch(scales):
    """In float64, so that what is compared is the mathematics: ten images encoded against the batch of all."""
    torch.set_default_dtype(torch.float64)
    try:
        seeds = [3, 5]
        members = ConvVaes(seeds, scales)
        parts = [batch(seed) for seed in seeds]
        parts = [(images.double(), drawn, eps.double()) for images, drawn, eps in parts]
        losses = members.negative_elbo(*stacked(parts))
        gradients = torch.autograd.grad(losses.sum(), members.parameters)
        for e, (seed, (images, drawn, eps)) in enumerate(zip(seeds, parts)):
            model = plain(seed)
            loss = model(images[drawn], eps, scales).mean()
            torch.testing.assert_close(losses[e], loss, rtol=1e-11, atol=0)
            expected = torch.autograd.grad(loss, list(model.parameters()))
            largest = max(gradient.abs().max().item() for gradient in expected)
            for ours, theirs in zip(gradients, expected):  # a bias before a normalisation has gradient 0 up to rounding
                torch.testing.assert_close(ours[e], theirs, rtol=1e-8, atol=1e-12 * largest)
    finally:
        torch.set_default_dtype(torch.float32)


def test_three_updates_are_those_of_the_plain_model():
    members, model = ConvVaes([7], COMBINATIONS[0]), plain(7)
    adam, optimizer = (torch.optim.Adam(parameters, 1e-3) for parameters in (members.parameters, model.parameters()))
    for step in range(3):
        images, drawn, eps = batch(step)
        loss = _update(members, adam, [(images, drawn, eps)])
        optimizer.zero_grad()
        expected = model(images[drawn], eps, COMBINATIONS[0]).mean()
        expected.backward()
        optimizer.step()
        # Adam moves a weight by its rate whatever the gradient, so rounding in one near 0 shows in the next loss.
        torch.testing.assert_close(loss[0], expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("broken", [None, 1])
def test_a_member_trains_alone_as_in_company_even_if_a_companion_is_nan(broken):
    """The sums of a grouped convolution may run in another order than those of a single one: equal to rounding."""
    seeds, parts = [1, 2, 3], [batch(seed) for seed in (1, 2, 3)]
    together = ConvVaes(seeds, COMBINATIONS[0])
    if broken is not None:
        together.parameters[0].data[broken] = torch.nan
    adam = torch.optim.Adam(together.parameters, 1e-3)
    losses = [_update(together, adam, parts) for _ in range(3)]
    for e in (0, 2):
        alone = ConvVaes([seeds[e]], COMBINATIONS[0])
        own = torch.optim.Adam(alone.parameters, 1e-3)
        for together_loss in losses:
            torch.testing.assert_close(together_loss[e], _update(alone, own, parts[e : e + 1])[0], rtol=1e-4, atol=0)
    assert losses[-1].isnan().tolist() == [False, broken is not None, False]


def _update(members: ConvVaes, adam: torch.optim.Adam, parts: list[tuple]) -> Tensor:
    losses = members.negative_elbo(*stacked(parts))
    adam.zero_grad()
    losses.sum().backward()
    adam.step()
    return losses.detach()
