"""The stacked VAEs of section 7.1 against the plain one, alone and in company, with a NaN among them."""

import pytest
import torch

from experiments.conv_vae import PIXEL_SCALE, ConvVae, ConvVaes, Scales
from experiments.member_adam import MemberAdam
from stable_params import Exp, ExpLin, NaiveExp, UpBounded

COMBINATIONS = [Scales(ExpLin(), PIXEL_SCALE), Scales(NaiveExp(), NaiveExp()), Scales(UpBounded(1.0), Exp())]


def plain(seed: int) -> ConvVae:
    torch.manual_seed(seed)
    return ConvVae()


def batch(seed: int, size: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten images, the indices of a batch in which each of them occurs another number of times, and noise."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.cat([torch.arange(10), torch.randint(0, 4, (size - 10,), generator=generator)])
    return torch.rand(10, 3, 32, 32, generator=generator), drawn, torch.randn(size, 100, generator=generator)


def stacked(parts: list[tuple]) -> list[torch.Tensor]:
    return [torch.stack(part) for part in zip(*parts)]


def test_the_layers_are_those_that_the_paper_prints():
    sizes = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in ConvVae().named_children()}
    encoder = (3 * 16 * 16 + 16) + 2 * 16 + (16 * 32 * 16 + 32) + 2 * 32 + (32 * 64 * 16 + 64)
    decoder = (100 * 64 * 16 + 64) + (64 * 32 * 16 + 32) + 2 * 32 + (32 * 16 * 16 + 16) + 2 * 16 + (16 * 3 * 16 + 3)
    head = 64 * 100 * 16 + 100
    assert sizes == {"encoder": encoder, "loc": head, "raw": head, "decoder": decoder}
    assert sum(parameter.numel() for parameter in ConvVae().parameters()) == 391_276
    kinds = [type(layer).__name__ for layer in ConvVae().decoder]
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
            for ours, theirs in zip(gradients, expected):  # a bias before a normalisation has gradient 0, but for rounding
                torch.testing.assert_close(ours[e], theirs, rtol=1e-8, atol=1e-12 * largest)
    finally:
        torch.set_default_dtype(torch.float32)


def test_three_updates_are_those_of_plain_pytorch():
    members, model = ConvVaes([7], COMBINATIONS[0]), plain(7)
    adam, optimizer = MemberAdam(members.parameters, 1e-3), torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(3):
        images, drawn, eps = batch(step)
        loss = members.negative_elbo(images[None], drawn[None], eps[None])
        adam.step(torch.autograd.grad(loss.sum(), members.parameters))
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
    adam = MemberAdam(together.parameters, torch.tensor([1e-3, 1e-2, 1e-4]))
    losses = [_update(together, adam, parts) for _ in range(3)]
    for e, lr in ((0, 1e-3), (2, 1e-4)):
        alone = ConvVaes([seeds[e]], COMBINATIONS[0])
        own = MemberAdam(alone.parameters, lr)
        for together_loss in losses:
            torch.testing.assert_close(together_loss[e], _update(alone, own, parts[e : e + 1])[0], rtol=1e-4, atol=0)
    assert losses[-1].isnan().tolist() == [False, broken is not None, False]


def _update(members: ConvVaes, adam: MemberAdam, parts: list[tuple]) -> torch.Tensor:
    losses = members.negative_elbo(*stacked(parts))
    adam.step(torch.autograd.grad(losses.sum(), members.parameters))
    return losses.detach()
