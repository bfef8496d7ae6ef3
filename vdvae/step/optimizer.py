"""AdamW that can skip an update without the host knowing, its schedule, and optimizer files of either make."""

from collections.abc import Iterable

import torch
from torch import Tensor

from vdvae.settings.hparams import Hparams

EPS = 1e-8


def learning_rate(hparams: Hparams, iteration: int) -> float:
    """lr × min(1, iteration / warmup_iters); the first update of a warm-up has rate 0, as in the original."""
    return hparams.lr * min(1.0, iteration / hparams.warmup_iters) if hparams.warmup_iters else hparams.lr


def make_optimizer(hparams: Hparams, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """PyTorch's fused AdamW, or NVIDIA apex's FusedAdam on request; both compute the same update.

    Raises ModuleNotFoundError that says where apex comes from when it is asked for and missing.
    """
    settings = {"lr": hparams.lr, "betas": (hparams.adam_beta1, hparams.adam_beta2), "eps": EPS,
                "weight_decay": hparams.wd}
    if hparams.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, capturable=hparams.cuda_graphs, **settings)
    try:
        from apex.optimizers import FusedAdam
    except ImportError as error:
        raise ModuleNotFoundError("--optimizer apex needs NVIDIA apex (github.com/NVIDIA/apex, built with CUDA; the PyPI "
                                  "package of that name is another project); --optimizer adamw is the same update") from error
    return FusedAdam(parameters, **settings)


def step_unless(optimizer: torch.optim.Optimizer, skip: Tensor, lr: float | Tensor) -> None:
    """One update at rate `lr`; where `skip` (bool scalar on the device) holds, nothing changes.

    AdamW reads `skip` on the device. apex's FusedAdam cannot, so with it the host waits for `skip`.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    if isinstance(optimizer, torch.optim.AdamW):
        optimizer.grad_scale, optimizer.found_inf = None, skip.float()  # the fused kernel's own switch
        optimizer.step()
    elif not skip.item():
        optimizer.step()


def optimizer_file(optimizer: torch.optim.Optimizer) -> dict:
    """State that PyTorch's AdamW and apex's FusedAdam both load: moments and step of each parameter, and the group's step."""
    saved = optimizer.state_dict()
    steps = [int(entry["step"]) for entry in saved["state"].values() if "step" in entry]
    group = saved["param_groups"][0]
    step = max(steps, default=group.get("step", 0))
    state = {index: {"step": torch.tensor(float(step)), **entry} for index, entry in saved["state"].items()}
    return {"state": state, "param_groups": [{"bias_correction": True, **group, "lr": float(group["lr"]), "step": step}]}


def load_optimizer_file(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Set moments and step from a file of either optimizer; rates, betas and decay stay as the flags say.

    Raises ValueError when the file is of another model or of another kind.
    """
    current = optimizer.state_dict()
    count = len(current["param_groups"][0]["params"])
    if set(saved) != {"state", "param_groups"} or len(saved["state"]) not in (0, count):
        raise ValueError(f"not the state of an Adam optimizer over {count} tensors")
    group_step = saved["param_groups"][0].get("step", 0)
    state = {index: {"step": torch.tensor(float(group_step)), **entry} for index, entry in saved["state"].items()}
    for parameter, (index, entry) in zip(optimizer.param_groups[0]["params"], sorted(state.items())):
        if entry["exp_avg"].shape != parameter.shape:
            raise ValueError(f"tensor {index} has shape {list(entry['exp_avg'].shape)}, the model's has {list(parameter.shape)}")
        state[index] = {**entry, **{name: _laid_out_as(parameter, entry[name]) for name in ("exp_avg", "exp_avg_sq")}}
    step = int(group_step or max((entry["step"] for entry in state.values()), default=0))
    groups = [{**current["param_groups"][0], "step": step}]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """The moment with the strides of its weight; the fused kernels read both in memory order, whatever their strides."""
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)
