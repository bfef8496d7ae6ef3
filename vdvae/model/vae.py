"""The very deep VAE: encoder, decoder and objective."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vdvae.model.decoder import Decoder, Latent
from vdvae.model.encoder import Encoder
from vdvae.model.likelihood.pixel_layer import PixelScales
from vdvae.settings.hparams import Hparams


@dataclass(frozen=True)
class Elbo:
    """The objective of one batch, and the tensors that show in which block a value is not finite or too large."""

    negative_elbo: Tensor  # scalar, nats per dimension, mean over the batch
    distortion: Tensor  # [B], nats per dimension
    rate: Tensor  # [B], nats per dimension
    kl_per_block: Tensor  # [L, B], nats
    latents: tuple[Latent, ...]  # one per decoder block, without graph
    encoding: Tensor  # [B, width, res, res], the encoder's lowest activations, without graph
    pixels: PixelScales | None = None  # of a likelihood of Normals

    def detach(self) -> "Elbo":
        """The same tensors without their graph; nothing is copied."""
        names = ("negative_elbo", "distortion", "rate", "kl_per_block")
        return replace(self, **{name: getattr(self, name).detach() for name in names})


class VAE(nn.Module):
    """The model of Child 2020 with the scales that `hparams` names; layer names and shapes are the original's."""

    def __init__(self, hparams: Hparams):
        super().__init__()
        self.encoder = Encoder(hparams)
        self.decoder = Decoder(hparams)

    def forward(self, input: Tensor, target: Tensor) -> Elbo:
        """Score a batch: `input` `[B, C, H, W]` standardised, `target` `[B, H, W, C]` in [-1, 1].

        Draws one standard normal tensor per decoder block, in block order, from the global generator, and then the noise of a
        likelihood of Normals. Distributions and likelihood are float32 whatever the convolutions run in. Raises ValueError for
        tensors of another shape or kind.
        Only after `eval()` does it raise ValueError for a target outside [-1, 1]: in training the host waits for no value.
        """
        self._check_input(input)
        return self.score(self.encoder(input), target)

    def score(self, activations: dict[int, Tensor], target: Tensor) -> Elbo:
        """Score targets as `forward` does, from the encoder's activations: fresh latents need no second encoding."""
        self._check_target(target)
        state, latents = self.decoder(activations)
        distortion = self.decoder.out_net.nll(state, target)
        kl_per_block = torch.stack([latent.kl.sum(dim=(1, 2, 3)) for latent in latents])
        rate = kl_per_block.sum(dim=0) / target[0].numel()
        return Elbo((distortion + rate).mean(), distortion, rate, kl_per_block,
                    tuple(latent.detach() for latent in latents), activations[min(activations)].detach(),
                    self.decoder.out_net.scales(state, target))

    @property
    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """(zdim, res, res) of one image's latent in each block, in block order."""
        return [(block.zdim, block.resolution, block.resolution) for block in self.decoder.dec_blocks]

    def first_rate(self) -> float:
        """The rate of a new model from its scales alone, nats per dimension: what it is where all raw outputs are 0."""
        decoder = self.decoder
        latents = sum(map(math.prod, self.latent_shapes))
        return decoder.dec_blocks[0].scales.first_kl() * latents / (decoder.channels * decoder.image_size**2)

    @torch.no_grad()
    def encode(self, input: Tensor) -> list[Latent]:
        """Each block's latent for images `[B, C, H, W]`, drawn from the posterior; ValueError for another shape."""
        self._check_input(input)
        return self.decoder(self.encoder(input))[1]

    def decode(self, latents: Sequence[Tensor | Latent], temperature: float = 1.0) -> Tensor:
        """Images `[B, H, W, C]` from the latents of the first blocks, as `encode` gives them or z alone.

        They are uint8, for more than 8 bits uint16. z is `[B, zdim, res, res]`; the blocks that are missing are drawn from
        their priors with sigma times `temperature`, the pixels from the likelihood. Raises ValueError unless each z fits its
        block.
        """
        given = [latent.z if isinstance(latent, Latent) else latent for latent in latents]
        _check_latents(given, self.latent_shapes)
        return self.sample(len(given[0]), temperature, given)

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, latents: Sequence[Tensor] = ()) -> Tensor:
        """`n` images as `decode` gives them; `latents` gives z of the first blocks, the rest is drawn from the priors.

        Raises ValueError for n below 1.
        """
        if n < 1:
            raise ValueError(f"n is {n}, it must be at least 1")
        return self.decoder.out_net.sample(self.decoder.generate(n, temperature, latents))

    def _check_input(self, input: Tensor) -> None:
        size, channels = self.decoder.image_size, self.decoder.channels
        if tuple(input.shape[1:]) != (channels, size, size):
            raise ValueError(f"input is {list(input.shape)}, it must be [B, {channels}, {size}, {size}]")

    def _check_target(self, target: Tensor) -> None:
        size, channels = self.decoder.image_size, self.decoder.channels
        if tuple(target.shape[1:]) != (size, size, channels) or not target.is_floating_point():
            raise ValueError(f"target is {target.dtype} {list(target.shape)}, it must be float [B, {size}, {size}, {channels}]")
        if not self.training and bool((target.abs() > 1).any()):
            raise ValueError(f"target lies in [{target.min():g}, {target.max():g}], it must lie in [-1, 1]")


def _check_latents(latents: Sequence[Tensor], shapes: Sequence[tuple[int, int, int]]) -> None:
    if not 1 <= len(latents) <= len(shapes):
        raise ValueError(f"latents of {len(latents)} blocks given, it must be 1 to {len(shapes)}")
    for index, (z, shape) in enumerate(zip(latents, shapes)):
        expected = (*latents[0].shape[:1], *shape)
        if tuple(z.shape) != expected:
            raise ValueError(f"z of block {index} is {list(z.shape)}, it must be {list(expected)}")
