"""Compiling a model's parts in place, region by region: the whole graph at once takes minutes."""

import torch

from vdvae.model.vae import VAE

SHAPES = 64  # how many a compiled function may be made for: blocks share their code, one compilation for each shape


def compile_parts(vae: VAE) -> None:
    """torch.compile for each block and the likelihood; names in the state dict stay, as does the noise for a seed.

    The first forward and backward pass compiles: about a minute for each shape of block on a CPU.
    """
    torch._inductor.config.fallback_random = True  # the generator's own noise
    torch._dynamo.config.recompile_limit = SHAPES
    for block in (*vae.encoder.enc_blocks, *vae.decoder.dec_blocks):
        block.compile(fullgraph=True, dynamic=False)
    likelihood = vae.decoder.out_net
    likelihood.nll = torch.compile(likelihood.nll, fullgraph=True, dynamic=False)
