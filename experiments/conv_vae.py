"""The convolutional VAEs of the paper's section 7.1, several at once: the members' channels side by side, in groups."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stable_params import Bounded, Constant, Parameterization

SIZE, CHANNELS, LATENTS = 32, 3, 100
PIXELS = CHANNELS * SIZE * SIZE
PIXEL_SCALE = Bounded(1 / (256 * math.sqrt(12)), 1.0)  # for data in [0, 1]: one grey level's noise, the data range


class Scales(NamedTuple):
    """How a member turns raw outputs into scales: of its latents, and of all its pixels, one learned number."""

    encoded: Parameterization
    decoded: Parameterization


class ConvVae(nn.Module):
    """One member, as the paper prints it: its layers, their initial weights, and a forward pass without tricks.

    Batch normalisation knows no evaluation here, so it keeps no running statistics.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(CHANNELS, 16, 4, 2, 1), _norm(16), nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, 1), _norm(32), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1))  # fmt: skip
        self.loc, self.raw = nn.Conv2d(64, LATENTS, 4), nn.Conv2d(64, LATENTS, 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(LATENTS, 64, 4),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), _norm(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), _norm(16), nn.ReLU(),
            nn.ConvTranspose2d(16, CHANNELS, 4, 2, 1))  # fmt: skip
        self.pixel_raw = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, eps: Tensor, scales: Scales) -> Tensor:
        """The negative ELBO of each image, nats `[B]`, from images `[B, 3, 32, 32]` in [0, 1] and noise `[B, 100]`."""
        hidden = self.encoder(images)
        posterior = scales.encoded.normal(self.loc(hidden).flatten(1), self.raw(hidden).flatten(1))
        kl = posterior.kl(Constant().normal(torch.zeros_like(eps), eps)).sum(1)
        decoded = self.decoder(posterior.rsample(eps)[:, :, None, None])
        pixels = scales.decoded.normal(decoded, self.pixel_raw)
        return kl - pixels.log_prob(images).flatten(1).sum(1)


class ConvVaes:
    """E members that share `scales`, each with the weights of ConvVae drawn with its seed.

    `parameters`: those of ConvVae in its order, `[E, ...]` each. Activations are `[B, E channels, ...]`, one group of
    channels for each member, so that no sum runs over members.
    """

    def __init__(self, seeds: list[int], scales: Scales, device: str = "cpu"):
        self.scales, self.members = scales, len(seeds)
        members = [dict(_member(seed).named_parameters()) for seed in seeds]
        self.names = list(members[0])
        stacked = [torch.stack([member[name].detach() for member in members]) for name in self.names]
        self.parameters = [parameter.to(device).requires_grad_() for parameter in stacked]

    def negative_elbo(self, images: Tensor, drawn: Tensor, eps: Tensor) -> Tensor:
        """The mean negative ELBO of each member's batch, nats `[E]`.

        The batch of member e are `images[e]` `[K, 3, 32, 32]` at the indices `drawn[e]` `[B]`, with noise `eps[e]`
        `[B, 100]`. K images are encoded, not B: the encoder's batch statistics weigh each image by how often it was
        drawn, which is what the whole batch would give.
        """
        weights = F.one_hot(drawn, images.shape[1]).sum(1) / drawn.shape[1]  # [E, K]
        loc, raw = self._encode(images, weights)
        ten = self.scales.encoded.normal(loc, raw)
        rate = (ten.kl(Constant().normal(torch.zeros_like(loc), loc)).sum(2) * weights).sum(1)
        rows = drawn[:, :, None].expand(-1, -1, LATENTS)
        z = self.scales.encoded.normal(loc.gather(1, rows), raw.gather(1, rows)).rsample(eps)
        return rate - self._log_likelihood(images, drawn, z)

    def _encode(self, images: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """loc and raw of the posteriors, `[E, K, 100]` each."""
        x = _side_by_side(images)
        x = F.relu(self._weighted_norm(self._conv(x, "encoder.0", 2, 1), "encoder.1", weights))
        x = F.relu(self._weighted_norm(self._conv(x, "encoder.3", 2, 1), "encoder.4", weights))
        x = self._conv(x, "encoder.6", 2, 1)
        return tuple(_one_by_one(self._conv(x, name, 1, 0), self.members).flatten(2) for name in ("loc", "raw"))

    def _log_likelihood(self, images: Tensor, drawn: Tensor, z: Tensor) -> Tensor:
        """The mean of log p(x|z) over each member's batch, nats `[E]`, from z `[E, B, 100]`."""
        x = self._deconv(_side_by_side(z)[:, :, None, None], "decoder.0", 1, 0)
        x = F.relu(self._norm(self._deconv(x, "decoder.1", 2, 1), "decoder.2"))
        x = F.relu(self._norm(self._deconv(x, "decoder.4", 2, 1), "decoder.5"))
        decoded = _one_by_one(self._deconv(x, "decoder.7", 2, 1), self.members)  # [E, B, 3, 32, 32]
        targets = torch.stack([of_member[indices] for of_member, indices in zip(images, drawn)])
        pixels = self.scales.decoded.normal(decoded, self._named("pixel_raw").view(-1, 1, 1, 1, 1))
        return pixels.log_prob(targets).flatten(2).sum(2).mean(1)

    def _conv(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias = self._named(f"{name}.weight"), self._named(f"{name}.bias")
        return F.conv2d(x, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=self.members)

    def _deconv(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias = self._named(f"{name}.weight"), self._named(f"{name}.bias")
        return F.conv_transpose2d(x, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=self.members)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._named(f"{name}.weight"), self._named(f"{name}.bias")
        return F.batch_norm(x, None, None, weight.flatten(), bias.flatten(), training=True)

    def _weighted_norm(self, x: Tensor, name: str, weights: Tensor) -> Tensor:
        """Batch normalisation `[K, E C, H, W]` with mean and variance in which image k of member e weighs weights[e, k]."""
        weight, bias = self._named(f"{name}.weight"), self._named(f"{name}.bias")
        x = _one_by_one(x, self.members)
        share = weights[:, :, None, None, None] / (x.shape[3] * x.shape[4])
        mean = (x * share).sum((1, 3, 4), keepdim=True)
        variance = ((x - mean).square() * share).sum((1, 3, 4), keepdim=True)
        normalised = (x - mean) * torch.rsqrt(variance + EPS)
        return _side_by_side(normalised * weight[:, None, :, None, None] + bias[:, None, :, None, None])

    def _named(self, name: str) -> Tensor:
        return self.parameters[self.names.index(name)]


EPS = 1e-5  # of batch normalisation, PyTorch's default


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, EPS, track_running_stats=False)


def _member(seed: int) -> ConvVae:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvVae()


def _side_by_side(x: Tensor) -> Tensor:
    """`[E, B, C, ...]` to `[B, E C, ...]`."""
    return x.transpose(0, 1).flatten(1, 2)


def _one_by_one(x: Tensor, members: int) -> Tensor:
    """`[B, E C, ...]` to `[E, B, C, ...]`."""
    return x.unflatten(1, (members, -1)).transpose(0, 1)
