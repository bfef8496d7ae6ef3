"""The convolutional VAE of the paper's section 7.1, and several of them as one batched computation."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from stable_params import Parameterization, PixelHead, standard_normal_like

SIZE, CHANNELS, LATENTS = 32, 3, 100
PIXEL_SCALE = PixelHead().scale  # for data in [0, 1]: one grey level's noise, the data range


class Scales(NamedTuple):
    """The parameterizations of the latents' scales, and of the one learned scale of all pixels."""

    encoded: Parameterization
    decoded: Parameterization


class WeightedNorm(nn.BatchNorm2d):
    """Batch normalisation of images `[K, C, H, W]` of which image k has the share `shares[k]` of the batch.

    It keeps no running statistics, because nothing is evaluated here.
    """

    def __init__(self, channels: int):
        super().__init__(channels, track_running_stats=False)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """The images normalised with mean and variance of the whole batch."""
        weights = shares[:, None, None, None] / (x.shape[2] * x.shape[3])
        mean = (x * weights).sum((0, 2, 3), keepdim=True)
        variance = ((x - mean).square() * weights).sum((0, 2, 3), keepdim=True)
        normalised = (x - mean) * torch.rsqrt(variance + self.eps)
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]


class ConvVae(nn.Module):
    """One VAE with the layers that the paper prints, for batches drawn from a few images."""

    def __init__(self, scales: Scales):
        super().__init__()
        self.scales = scales
        self.encoder = nn.ModuleList([
            nn.Conv2d(CHANNELS, 16, 4, 2, 1), WeightedNorm(16), nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, 1), WeightedNorm(32), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1)])  # fmt: skip
        self.loc, self.raw = nn.Conv2d(64, LATENTS, 4), nn.Conv2d(64, LATENTS, 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(LATENTS, 64, 4),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32, track_running_stats=False), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16, track_running_stats=False), nn.ReLU(),
            nn.ConvTranspose2d(16, CHANNELS, 4, 2, 1))  # fmt: skip
        self.pixel_raw = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, drawn: Tensor, eps: Tensor) -> Tensor:
        """The mean negative ELBO, nats, of the batch `images[drawn]` with noise `eps` `[B, 100]`.

        `images` `[K, 3, 32, 32]` are in [0, 1], `drawn` `[B]` are indices. The encoder sees each image once and weighs it by
        how often the batch has it, which gives what the whole batch would give.
        """
        shares = (drawn == torch.arange(len(images), device=drawn.device)[:, None]).to(images.dtype).mean(1)  # [K]
        loc, raw = self._encode(images, shares)
        posterior = self.scales.encoded.normal(loc, raw)
        rate = (posterior.kl(standard_normal_like(loc)).sum(1) * shares).sum()
        z = self.scales.encoded.normal(loc[drawn], raw[drawn]).rsample(eps)
        pixels = self.scales.decoded.normal(self.decoder(z[:, :, None, None]), self.pixel_raw)
        return rate - pixels.log_prob(images[drawn]).flatten(1).sum(1).mean()

    def _encode(self, images: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """loc and raw of the posteriors, `[K, 100]` each."""
        x = images
        for layer in self.encoder:
            x = layer(x, shares) if isinstance(layer, WeightedNorm) else layer(x)
        return self.loc(x).flatten(1), self.raw(x).flatten(1)


class ConvVaes:
    """E members with the same `scales`, each with the weights that its seed gives; `parameters` are `[E, ...]` each."""

    def __init__(self, seeds: list[int], scales: Scales, device: str = "cpu"):
        members = [_member(seed, scales).to(device) for seed in seeds]
        self.model, self.named = members[0], stack_module_state(members)[0]
        self.parameters = list(self.named.values())

    def negative_elbo(self, images: Tensor, drawn: Tensor, eps: Tensor) -> Tensor:
        """The mean negative ELBO of each member's batch, nats `[E]`; the arguments are ConvVae's, stacked."""
        return vmap(lambda *arguments: functional_call(self.model, arguments[0], arguments[1:]))(self.named, images, drawn, eps)


def _member(seed: int, scales: Scales) -> ConvVae:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvVae(scales)
