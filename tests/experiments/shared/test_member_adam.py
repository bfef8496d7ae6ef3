"""Adam for stacked networks is PyTorch's Adam for each of them."""

import pytest
import torch

from experiments.shared.member_adam import MemberAdam

SHAPES = [(4, 3, 2), (4,), (4, 1, 5)]


def start() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) * 10.0 ** (step % 5 - 2) for shape in SHAPES]


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_each_member_has_the_update_of_pytorch(betas):
    lrs = [1e-3, 0.5, 1e-2, 1e-2]
    stacked = start()
    adam = MemberAdam(stacked, torch.tensor(lrs), betas)
    alone = [[tensor[e].clone().requires_grad_() for tensor in start()] for e in range(4)]
    plain = [torch.optim.Adam(mine, lr=lr, betas=betas) for mine, lr in zip(alone, lrs)]
    for step in range(30):
        adam.step(gradients(step))
        for e, optimizer in enumerate(plain):
            for parameter, gradient in zip(alone[e], gradients(step)):
                parameter.grad = gradient[e]
            optimizer.step()
    for e, mine in enumerate(alone):
        for parameter, together in zip(mine, stacked):
            # 30 updates, each rounded in another order: some ULP of a move, which is lr at most.
            torch.testing.assert_close(together[e], parameter.detach(), rtol=1e-6, atol=30 * lrs[e] * 5e-7)


def test_a_nan_stays_in_its_member():
    pairs = [start(), start()]
    for broken, tensors in enumerate(pairs):
        adam = MemberAdam(tensors, 0.1)
        for step in range(3):
            steps = gradients(step)
            if broken:
                steps[0][2] = torch.nan
                steps[1][2] = torch.inf
            adam.step(steps)
    fine = [0, 1, 3]
    for whole, with_nan in zip(*pairs):
        assert torch.equal(with_nan[fine], whole[fine])
    assert pairs[1][0][2].isnan().all() and torch.isnan(pairs[1][1][2])


def test_it_goes_on_to_the_bit_from_its_state():
    whole, halves = start(), start()
    first = MemberAdam(halves, 0.1)
    through = MemberAdam(whole, 0.1)
    for step in range(4):
        through.step(gradients(step))
    for step in range(2):
        first.step(gradients(step))
    second = MemberAdam(halves, 0.1)
    second.restore(first.state())
    for step in (2, 3):
        second.step(gradients(step))
    assert all(torch.equal(a, b) for a, b in zip(whole, halves))
