"""The bottom-up path: images to activations at every resolution."""

import torch.nn.functional as F
from torch import Tensor, nn

from vdvae.model.blocks import Block, conv, run_block, scale_weight
from vdvae.settings.block_strings import parse_encoder_blocks
from vdvae.settings.hparams import Hparams


class Encoder(nn.Module):
    """Residual blocks from the image's resolution down to the lowest one of `enc_blocks`."""

    def __init__(self, hparams: Hparams):
        super().__init__()
        self.widths, self.checkpoint_blocks = hparams.widths, hparams.checkpoint_blocks
        specs = parse_encoder_blocks(hparams.enc_blocks)
        self.in_conv = conv(hparams.dataset_spec.channels, hparams.width, 3)
        self.enc_blocks = nn.ModuleList()
        for resolution, down_rate in specs:
            width = self.widths[resolution]
            block = Block(width, int(width * hparams.bottleneck_multiple), width, resolution,
                          residual=True, down_rate=down_rate)
            scale_weight(block.c4, len(specs) ** -0.5)
            self.enc_blocks.append(block)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Input `[B, C, H, W]` to activations `[B, width[res], res, res]` by resolution, the last block's at each."""
        x = self.in_conv(images).to(images.dtype)  # under autocast too, blocks add to features in the images' precision
        activations = {x.shape[2]: x}
        for block in self.enc_blocks:
            x = run_block(block, x, again=self.checkpoint_blocks)
            resolution = x.shape[2]
            missing = self.widths[resolution] - x.shape[1]
            x = F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
            activations[resolution] = x
        return activations
