"""Adam for stacked networks: each member has its own learning rate, and no number of one enters another's update."""

import torch
from torch import Tensor


class MemberAdam:
    """The update of torch.optim.Adam (Kingma & Ba 2015) for `parameters` of E members, `[E, ...]` each.

    `lr` is a number, or a tensor `[E]` on the parameters' device. All is elementwise, so a NaN stays in its member.
    """

    def __init__(self, parameters: list[Tensor], lr: Tensor | float, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8):
        self.parameters, self.lr, self.betas, self.eps = parameters, lr, betas, eps
        self.steps = 0
        self.means = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """Change the parameters in place by their gradients, of the same shapes."""
        self.steps += 1
        (beta1, beta2), gradients = self.betas, list(gradients)
        torch._foreach_lerp_(self.means, gradients, 1 - beta1)
        torch._foreach_mul_(self.squares, beta2)
        torch._foreach_addcmul_(self.squares, gradients, gradients, value=1 - beta2)
        moves = torch._foreach_sqrt(self.squares)
        torch._foreach_div_(moves, (1 - beta2**self.steps) ** 0.5)
        torch._foreach_add_(moves, self.eps)
        torch._foreach_reciprocal_(moves)
        torch._foreach_mul_(moves, self.means)
        rate = self.lr / (1 - beta1**self.steps)
        for parameter, move in zip(self.parameters, moves):
            parameter.sub_(move.mul_(_per_member(rate, move)))

    def state(self) -> dict:
        """What `restore` takes: step count and moments."""
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    @torch.no_grad()
    def restore(self, state: dict) -> None:
        """Go on from what `state` returned for parameters of the same shapes."""
        self.steps = state["steps"]
        for name in ("means", "squares"):
            for mine, saved in zip(getattr(self, name), state[name], strict=True):
                mine.copy_(saved)


def _per_member(rate: Tensor | float, like: Tensor) -> Tensor | float:
    return rate.view(-1, *[1] * (like.ndim - 1)) if isinstance(rate, Tensor) else rate
