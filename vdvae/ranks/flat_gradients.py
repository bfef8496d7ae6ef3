"""The gradients of a model in one buffer, which one all-reduce averages over the ranks: between two CUDA graphs."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vdvae.ranks.distributed import World


class FlatGradients:
    """A float32 buffer with the gradients of `parameters` and, at its end, `width` numbers of every rank.

    At first all ranks get the weights of rank 0, as from DistributedDataParallel. A gradient's place in the buffer never
    changes. So a resumed run adds the ranks' gradients in the same order as an undisturbed one.
    """

    def __init__(self, parameters: list[nn.Parameter], world: World, width: int):
        sizes = [parameter.numel() for parameter in parameters]
        self.buffer = torch.zeros(sum(sizes) + world.size * width, device=world.device)
        self.parameters, self.rank = parameters, world.rank
        *parts, numbers = self.buffer.split([*sizes, world.size * width])
        self.numbers = numbers.view(world.size, width)
        # The strides of its weight: the fused optimizer reads both in memory order.
        self.gradients = [part.as_strided(weight.shape, weight.stride()) for part, weight in zip(parts, parameters)]
        self._send_weights()

    def zero(self) -> None:
        """Set the gradients to 0, in the buffer; backward passes then add to them there."""
        self.buffer.zero_()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient

    def share(self, numbers: Tensor) -> Tensor:
        """Average the gradients over the ranks; returns every rank's `numbers` `[width]` as `[ranks, width]`, in the buffer."""
        self.buffer /= len(self.numbers)
        self.numbers[self.rank] = numbers  # all other rows are 0, so the sum has every rank's own numbers
        dist.all_reduce(self.buffer)
        return self.numbers

    @torch.no_grad()
    def _send_weights(self) -> None:
        torch._foreach_copy_(self.gradients, self.parameters)
        dist.broadcast(self.buffer, 0)
        torch._foreach_copy_(self.parameters, self.gradients)
