"""The top-down path: latents block by block, from the lowest resolution to the image's."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stable_params import Normal, Parameterization, ResidualNormal
from vdvae.model.blocks import Block, conv, gelu, run_block, scale_weight
from vdvae.model.likelihood import make_likelihood
from vdvae.settings.block_strings import DecoderBlockSpec, parse_decoder_blocks
from vdvae.settings.hparams import Hparams


_resolution = attrgetter("resolution")


class LatentScales(NamedTuple):
    """How a decoder block makes Normals of its raw outputs."""

    posterior: Parameterization
    prior: Parameterization
    residual: bool  # the posterior is given in units of the prior

    def normals(self, posterior_out: Tensor, prior_out: Tensor) -> tuple[Normal, Normal]:
        """Posterior and prior from their means and raw scales, `[B, 2 zdim, res, res]` each."""
        prior = self.prior.normal(*prior_out.chunk(2, dim=1))
        posterior = self.posterior.normal(*posterior_out.chunk(2, dim=1))
        return ResidualNormal(posterior, prior) if self.residual else posterior, prior

    def first_kl(self) -> float:
        """Nats of a latent whose raw outputs are 0, as those of a new model nearly are; 0 if both scales start alike."""
        posterior, prior = self.normals(torch.zeros(1, 2), torch.zeros(1, 2))
        return posterior.kl(prior).item()


class Latent(NamedTuple):
    """What one decoder block did with a batch, float32. Its Normals are made anew when asked for: that keeps memory small."""

    scales: LatentScales
    posterior_out: Tensor  # [B, 2 zdim, res, res], mean and raw scale
    prior_out: Tensor  # [B, 2 zdim, res, res], mean and raw scale
    z: Tensor  # [B, zdim, res, res], a draw from the posterior
    kl: Tensor  # [B, zdim, res, res], nats, elementwise

    @property
    def posterior(self) -> Normal:
        """The Normal that z was drawn from, `[B, zdim, res, res]`."""
        return self.scales.normals(self.posterior_out, self.prior_out)[0]

    @property
    def prior(self) -> Normal:
        """The Normal that the KL is taken from, `[B, zdim, res, res]`."""
        return self.scales.normals(self.posterior_out, self.prior_out)[1]

    def detach(self) -> "Latent":
        """The same tensors, without their graph (nothing is copied)."""
        return Latent(self.scales, *(tensor.detach() for tensor in self[1:]))


class DecoderBlock(nn.Module):
    """One stochastic layer: prior and posterior of `z`, then the residual update of the state."""

    def __init__(self, hparams: Hparams, spec: DecoderBlockSpec, n_blocks: int):
        super().__init__()
        self.resolution, self.mixin = spec
        self.width, self.zdim = hparams.widths[self.resolution], hparams.zdim
        self.scales = LatentScales(hparams.posterior_scale, hparams.prior_scale, hparams.posterior == "residual")
        middle = int(self.width * hparams.bottleneck_multiple)
        self.enc = Block(2 * self.width, middle, 2 * self.zdim, self.resolution)
        self.prior = Block(self.width, middle, 2 * self.zdim + self.width, self.resolution)
        self.z_proj = conv(self.zdim, self.width, 1)
        self.resnet = Block(self.width, middle, self.width, self.resolution, residual=True)
        nn.init.zeros_(self.prior.c4.weight)
        scale_weight(self.z_proj, n_blocks**-0.5)
        scale_weight(self.resnet.c4, n_blocks**-0.5)

    def forward(self, x: Tensor, bottom_up: Tensor) -> tuple[Tensor, Latent]:
        """State `[B, width, res, res]` to the new state and the block's latent, drawn from the posterior.

        `bottom_up` `[B, middle, res, res]` is what enc.c1 makes of the encoder's activations, its other half of the input.
        With a residual posterior, `enc` gives it in units of the prior.
        """
        activated = gelu(x)
        of_state = F.conv2d(activated, self.enc.c1.weight[:, : self.width], self.enc.c1.bias)
        posterior_out = _float32(self.enc.after_c1(of_state + bottom_up))
        prior_out, residual = self._prior(activated)
        posterior, prior = self.scales.normals(posterior_out, prior_out)
        z = posterior.rsample()
        latent = Latent(self.scales, posterior_out, prior_out, z, posterior.kl(prior))
        return self._update(x + residual, z), latent

    def generate(self, x: Tensor, z: Tensor | None, temperature: float) -> Tensor:
        """New state from `z` `[B, zdim, res, res]`; None draws it from the prior with sigma times `temperature`."""
        prior_out, residual = self._prior(gelu(x))
        if z is None:
            z = self.scales.prior.normal(*prior_out.chunk(2, dim=1)).tempered(temperature).rsample()
        return self._update(x + residual, z)

    def _prior(self, activated: Tensor) -> tuple[Tensor, Tensor]:
        out = self.prior.after_c1(self.prior.c1(activated))
        return _float32(out[:, : 2 * self.zdim]), out[:, 2 * self.zdim :]

    def _update(self, x: Tensor, z: Tensor) -> Tensor:
        return self.resnet(x + self.z_proj(z.to(x.dtype, memory_format=_memory_format(x))))


class Decoder(nn.Module):
    """All decoder blocks, their learned initial states and the output layer."""

    def __init__(self, hparams: Hparams):
        super().__init__()
        specs = parse_decoder_blocks(hparams.dec_blocks)
        self.image_size, self.channels = hparams.image_size, hparams.dataset_spec.channels
        self.checkpoint_blocks = hparams.checkpoint_blocks
        self.dec_blocks = nn.ModuleList(DecoderBlock(hparams, spec, len(specs)) for spec in specs)
        biased = sorted({spec.resolution for spec in specs if spec.resolution <= hparams.no_bias_above})
        self.bias_xs = nn.ParameterList(nn.Parameter(torch.zeros(1, hparams.widths[res], res, res)) for res in biased)
        self.out_net = make_likelihood(hparams)
        self.gain = nn.Parameter(torch.ones(1, hparams.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, hparams.width, 1, 1))

    def forward(self, activations: dict[int, Tensor]) -> tuple[Tensor, list[Latent]]:
        """The encoder's activations to the final state `[B, width, H, W]` and each block's latent, in block order."""
        features = activations[self.image_size]
        states = self._initial_states(features.shape[0], _memory_format(features))
        latents = []
        for block, bottom_up in zip(self.dec_blocks, self._bottom_up(activations)):
            x, latent = run_block(block, self._enter(block, states), bottom_up, again=self.checkpoint_blocks)
            states[block.resolution] = x
            latents.append(latent)
        return self._final(states), latents

    def _bottom_up(self, activations: dict[int, Tensor]) -> list[Tensor]:
        """Each block's enc.c1 of the encoder's activations, in block order: one convolution a resolution."""
        by_resolution = groupby(sorted(self.dec_blocks, key=_resolution), key=_resolution)
        parts = {}
        for resolution, blocks in ((resolution, list(blocks)) for resolution, blocks in by_resolution):
            weight = torch.cat([block.enc.c1.weight[:, block.width :] for block in blocks])
            parts[resolution] = iter(F.conv2d(gelu(activations[resolution]), weight).chunk(len(blocks), dim=1))
        return [next(parts[block.resolution]) for block in self.dec_blocks]

    def generate(self, n: int, temperature: float = 1.0, latents: Sequence[Tensor | None] = ()) -> Tensor:
        """Final state `[n, width, H, W]` of free samples; `latents` gives z of the first blocks, the rest is drawn."""
        states = self._initial_states(n)
        given = list(latents) + [None] * (len(self.dec_blocks) - len(latents))
        for block, z in zip(self.dec_blocks, given, strict=True):
            states[block.resolution] = block.generate(self._enter(block, states), z, temperature)
        return self._final(states)

    def _initial_states(self, n: int, memory_format: torch.memory_format = torch.contiguous_format) -> dict[int, Tensor]:
        """The learned states for a batch of n; zeros at the resolutions without one."""
        states = {bias.shape[2]: bias for bias in self.bias_xs}
        for block in self.dec_blocks:
            if block.resolution not in states:
                states[block.resolution] = self.gain.new_zeros(1, block.width, block.resolution, block.resolution)
        formatted = {resolution: state.contiguous(memory_format=memory_format) for resolution, state in states.items()}
        return {resolution: state.expand(n, -1, -1, -1) for resolution, state in formatted.items()}

    def _enter(self, block: DecoderBlock, states: dict[int, Tensor]) -> Tensor:
        x = states[block.resolution]
        if block.mixin is None:
            return x
        lower = states[block.mixin][:, : block.width]
        return x + F.interpolate(lower, scale_factor=block.resolution // block.mixin)

    def _final(self, states: dict[int, Tensor]) -> Tensor:
        return states[self.image_size] * self.gain + self.bias


def _float32(out: Tensor) -> Tensor:
    """`[B, 2 zdim, res, res]` in float32, contiguous, so that a compiled KL gets the same layout each time."""
    return out.to(torch.float32, memory_format=torch.contiguous_format)


def _memory_format(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
