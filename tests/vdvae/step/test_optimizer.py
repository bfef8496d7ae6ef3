"""The schedule, optimizer files of PyTorch and of apex, and apex on request."""

import sys
import types

import pytest
import torch

from vdvae.step.optimizer import learning_rate, load_optimizer_file, make_optimizer, optimizer_file, step_unless


class StandInFusedAdam(torch.optim.Optimizer):
    """Keeps its state as apex's FusedAdam does: the step in the group, the moments per parameter, no fused skip."""

    def __init__(self, params, lr, betas, eps, weight_decay):
        super().__init__(params, dict(lr=lr, bias_correction=True, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            assert group["bias_correction"]
            group["step"] = group.get("step", 0) + 1
            decay1, decay2 = group["betas"]
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["exp_avg"].lerp_(parameter.grad, 1 - decay1)
                state["exp_avg_sq"].lerp_(parameter.grad**2, 1 - decay2)
                mean = state["exp_avg"] / (1 - decay1 ** group["step"])
                square = state["exp_avg_sq"] / (1 - decay2 ** group["step"])
                parameter -= group["lr"] * (mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * parameter)


@pytest.fixture()
def apex(monkeypatch):
    optimizers = types.ModuleType("apex.optimizers")
    optimizers.FusedAdam = StandInFusedAdam
    monkeypatch.setitem(sys.modules, "apex", types.ModuleType("apex"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", optimizers)


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 2), (4,))]


def take_steps(optimizer, params, gradients) -> None:
    for step in gradients:
        for parameter, gradient in zip(params, step):
            parameter.grad = gradient.clone()
        step_unless(optimizer, torch.tensor(False), 0.01)


def gradients(seed: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator) for shape in ((3, 2), (4,))] for _ in range(3)]


def test_schedule(small_hparams):
    hparams = small_hparams("--lr", 0.5, "--warmup_iters", 10)
    assert [learning_rate(hparams, i) for i in (0, 1, 5, 10, 11, 1000)] == [0, 0.05, 0.25, 0.5, 0.5, 0.5]
    assert learning_rate(small_hparams("--lr", 0.5, "--warmup_iters", 0), 0) == 0.5


def test_both_makes_compute_the_same_update_and_exchange_files(apex, small_hparams):
    """Three updates by one make, its file into the other, three more: the same weights as six by either."""
    ends = []
    for first, second in (("adamw", "adamw"), ("apex", "apex"), ("adamw", "apex"), ("apex", "adamw")):
        params = parameters()
        before = make_optimizer(small_hparams("--optimizer", first), params)
        take_steps(before, params, gradients(1))
        after = make_optimizer(small_hparams("--optimizer", second), params)
        load_optimizer_file(after, optimizer_file(before))
        take_steps(after, params, gradients(2))
        ends.append(torch.cat([parameter.detach().flatten() for parameter in params]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


def test_our_file_loads_into_both_makes_directly(apex, small_hparams):
    params = parameters()
    optimizer = make_optimizer(small_hparams(), params)
    take_steps(optimizer, params, gradients(1))
    for make in ("adamw", "apex"):
        other = make_optimizer(small_hparams("--optimizer", make), params)
        other.load_state_dict(optimizer_file(optimizer))
        take_steps(other, params, gradients(2))


@pytest.mark.parametrize("make", ["adamw", "apex"])
def test_a_skipped_step_changes_nothing(apex, small_hparams, make):
    params = parameters()
    optimizer = make_optimizer(small_hparams("--optimizer", make), params)
    take_steps(optimizer, params, gradients(1))
    before = [parameter.detach().clone() for parameter in params]
    file = optimizer_file(optimizer)
    for parameter in params:
        parameter.grad = torch.full_like(parameter, torch.nan)
    step_unless(optimizer, torch.tensor(True), 0.01)
    assert all(torch.equal(now, old) for now, old in zip(params, before))
    assert optimizer_file(optimizer)["param_groups"][0]["step"] == file["param_groups"][0]["step"] == 3


def test_moments_of_a_file_that_lie_in_another_order_in_memory_are_put_in_the_weights_order(small_hparams):
    # PyTorch's fused AdamW takes the tensors' memory as it comes; unlike strides would pair weights with others' moments.
    ends = []
    for turned in (False, True):
        params = parameters()
        optimizer = make_optimizer(small_hparams(), params)
        take_steps(optimizer, params, gradients(1))
        file = optimizer_file(optimizer)
        if turned:
            moments = file["state"][0]
            moments |= {name: moments[name].t().contiguous().t() for name in ("exp_avg", "exp_avg_sq")}
        other = make_optimizer(small_hparams(), params)
        load_optimizer_file(other, file)
        take_steps(other, params, gradients(2))
        ends.append(torch.cat([parameter.detach().flatten() for parameter in params]))
    assert torch.equal(*ends)


def test_rates_of_the_flags_win_over_those_of_a_file(small_hparams):
    params = parameters()
    optimizer = make_optimizer(small_hparams("--wd", 0.3), params)
    take_steps(optimizer, params, gradients(1))
    other = make_optimizer(small_hparams("--wd", 0.1, "--adam_beta2", 0.95), params)
    load_optimizer_file(other, optimizer_file(optimizer))
    assert other.param_groups[0]["weight_decay"] == 0.1 and other.param_groups[0]["betas"] == (0.9, 0.95)


def test_apex_that_is_missing_is_explained(monkeypatch, small_hparams):
    monkeypatch.setitem(sys.modules, "apex", None)
    with pytest.raises(ModuleNotFoundError, match="NVIDIA apex.*--optimizer adamw"):
        make_optimizer(small_hparams("--optimizer", "apex"), parameters())


def test_a_file_of_another_model_is_refused(small_hparams):
    optimizer = make_optimizer(small_hparams(), parameters()[:1])
    params = parameters()
    other = make_optimizer(small_hparams(), params)
    take_steps(other, params, gradients(1))
    with pytest.raises(ValueError, match="over 1 tensors"):
        load_optimizer_file(optimizer, optimizer_file(other))
    turned = make_optimizer(small_hparams(), parameters()[::-1])
    with pytest.raises(ValueError, match=r"shape \[3, 2\]"):
        load_optimizer_file(turned, optimizer_file(other))
