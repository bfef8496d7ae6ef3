"""Three updates of a small VDVAE, noise off, on this rank's share of four images: `three_updates.py OUT SCENARIO ...`.

Writes OUT/SCENARIO-R.pt for rank R: the weights before and after each update, the averaged weights, each update's report.
The last rank is asked to stop at the second update. Graphs are recorded at the second update, and replayed on the host.
"""

import sys
from copy import deepcopy
from pathlib import Path

import torch

from tests.vdvae.step.replayed_on_host import ReplayedOnHost
from vdvae.data.preprocess import Preprocess
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World, join_world, share_gradients
from vdvae.settings.hparams import Hparams, load_hparams
from vdvae.step import graphed_step
from vdvae.step.acceleration import memory_format
from vdvae.step.graphed_step import GraphedStep
from vdvae.step.optimizer import make_optimizer
from vdvae.step.spectral import SpectralPenalty
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep, average_of

FLAGS = ["--hps", "cifar10", "--image_size", "8", "--width", "16", "--zdim", "4", "--num_mixtures", "2",
         "--dec_blocks", "1x1,4m1,8m4", "--enc_blocks", "8x1,8d2,4d4,1x1", "--warmup_iters", "0", "--lr", "0.0009765625",
         "--ema_rate", "0.5", "--sigma_param", "explin"]
SCENARIOS = {
    "plain": [], "in_parts": ["--n_batch", "2", "--accumulate_steps", "2"], "checkpointed": ["--checkpoint_blocks"],
    "compressed": ["--compress_gradients"], "penalized": ["--spectral_reg", "0.3"], "nan_on_rank_1": [],
    "bf16": ["--precision", "bf16"],
}
GRAPHED = ("plain", "in_parts", "penalized", "nan_on_rank_1", "bf16")
SCENARIOS |= {f"graphed_{name}": [*SCENARIOS[name], "--cuda_graphs"] for name in GRAPHED}
SCENARIOS |= {"graphed_resumed": ["--cuda_graphs"]}  # after the second update, by a process that has done nothing yet


def three_updates(scenario: str, world: World) -> dict:
    hparams = load_hparams([*FLAGS, *SCENARIOS[scenario]])
    step = made(hparams, world)
    images = torch.randint(0, 256, (3, 4, 8, 8, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    call = GraphedStep(step, ReplayedOnHost(step)) if hparams.cuda_graphs else step
    saved = {"weights": [weights(step.model)], "averages": [weights(step.average)], "reports": []}
    for iteration in range(3):
        batch = Preprocess(hparams.dataset_spec, memory_format(hparams))(images[iteration, world.rank :: world.size])
        if scenario.endswith("nan_on_rank_1") and world.rank == 1 and iteration == 1:
            batch.input[0, 0, 0, 0] = torch.nan
        if scenario == "graphed_resumed" and iteration == 2:
            step = as_saved(step)
            call = GraphedStep(step, ReplayedOnHost(step))
        stop = iteration == 1 and world.rank == world.size - 1
        report = PendingReport(call(*batch, hparams.lr, stop), iteration, 0, hparams.lr).read()
        saved["weights"].append(weights(step.model))
        saved["averages"].append(weights(step.average))
        saved["reports"].append({name: getattr(report, name) for name in ("reasons", "losses", "grad_norm", "stop")})
    saved["gradients_in_buckets"] = all(weight.grad._is_view() and strides(weight.grad) == strides(weight)
                                        for weight in step.parameters)
    return saved


def made(hparams: Hparams, world: World) -> TrainStep:
    torch.manual_seed(3)
    vae = VAE(hparams).to(memory_format=memory_format(hparams))
    average = average_of(vae)
    penalty = SpectralPenalty(vae, hparams.seed) if hparams.spectral_reg else None
    for weight in vae.parameters():
        weight.data += world.rank  # the weights of rank 0 are sent to all
    model = vae if hparams.cuda_graphs else share_gradients(vae, world, hparams.compress_gradients)
    return TrainStep(model, average, make_optimizer(hparams, vae.parameters()), hparams, world, penalty)


def as_saved(step: TrainStep) -> TrainStep:
    """A new step in the state of another one."""
    new = made(step.hparams, step.world)
    for name in ("model", "average", "optimizer"):
        getattr(new, name).load_state_dict(deepcopy(getattr(step, name).state_dict()))
    return new


def strides(tensor: torch.Tensor) -> list[int]:
    return [stride for stride, size in zip(tensor.stride(), tensor.shape) if size > 1]


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    torch.randn_like = torch.zeros_like
    graphed_step.WARM_UP = 1
    with join_world("cpu") as this_world:
        for name in sys.argv[2:]:
            torch.save(three_updates(name, this_world), Path(sys.argv[1]) / f"{name}-{this_world.rank}.pt")
