"""Three updates of a small VDVAE, noise off, on this rank's share of four images: `three_updates.py OUT SCENARIO ...`.

Writes OUT/SCENARIO-R.pt for rank R: the weights before and after each update, the averaged weights, each update's report.
"""

import sys
from pathlib import Path

import torch

from vdvae.data.preprocess import Preprocess
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World, join_world, share_gradients
from vdvae.settings.hparams import load_hparams
from vdvae.step.optimizer import make_optimizer
from vdvae.step.spectral import SpectralPenalty
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep, average_of

FLAGS = ["--hps", "cifar10", "--image_size", "8", "--width", "16", "--zdim", "4", "--num_mixtures", "2",
         "--dec_blocks", "1x1,4m1,8m4", "--enc_blocks", "8x1,8d2,4d4,1x1", "--warmup_iters", "0", "--lr", "0.001",
         "--ema_rate", "0.5", "--sigma_param", "explin"]
SCENARIOS = {
    "plain": [], "in_parts": ["--n_batch", "2", "--accumulate_steps", "2"], "checkpointed": ["--checkpoint_blocks"],
    "compressed": ["--compress_gradients"], "penalized": ["--spectral_reg", "0.3"], "nan_on_rank_1": [],
}


def three_updates(scenario: str, world: World) -> dict:
    hparams = load_hparams([*FLAGS, *SCENARIOS[scenario]])
    torch.manual_seed(3)
    vae = VAE(hparams)
    average = average_of(vae)
    images = torch.randint(0, 256, (3, 4, 8, 8, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    penalty = SpectralPenalty(vae, hparams.seed) if hparams.spectral_reg else None
    shared = share_gradients(vae, world, hparams.compress_gradients)
    step = TrainStep(shared, average, make_optimizer(hparams, vae.parameters()), hparams, world, penalty)
    saved = {"weights": [weights(vae)], "averages": [weights(average)], "reports": []}
    for iteration in range(3):
        batch = Preprocess(hparams.dataset_spec)(images[iteration, world.rank :: world.size])
        if scenario == "nan_on_rank_1" and world.rank == 1 and iteration == 1:
            batch.input[0, 0, 0, 0] = torch.nan
        report = PendingReport(step(*batch, hparams.lr), iteration, 0, hparams.lr).read()
        saved["weights"].append(weights(vae))
        saved["averages"].append(weights(average))
        saved["reports"].append({"reasons": report.reasons, "losses": report.losses, "grad_norm": report.grad_norm})
    saved["gradients_in_buckets"] = all(parameter.grad._is_view() for parameter in vae.parameters())
    return saved


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    torch.randn_like = torch.zeros_like
    with join_world("cpu") as this_world:
        for name in sys.argv[2:]:
            torch.save(three_updates(name, this_world), Path(sys.argv[1]) / f"{name}-{this_world.rank}.pt")
