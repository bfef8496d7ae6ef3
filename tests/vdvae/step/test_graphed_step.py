"""A recorded update does what the update does; the graph here is one that any device can replay."""

import pytest
import torch

from tests.vdvae.step.replayed_on_host import ReplayedOnHost
from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.step.graphed_step import WARM_UP, GraphedStep
from vdvae.step.optimizer import make_optimizer
from vdvae.step.step_result import PendingReport
from vdvae.step.step_result import StepResult
from vdvae.step.train_step import TrainStep, average_of

COPIED = ("losses", "grad_norm", "grad_norms", "skip", "stop")


def make_step(hparams) -> TrainStep:
    torch.manual_seed(0)
    vae = VAE(hparams)
    return TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, World())


def trained(step: TrainStep) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for model in (step.model, step.average) for weight in model.parameters()])


def figures_of(result: StepResult) -> list:
    """What a result holds at this moment, whether it was skipped last."""
    tensors = [*(getattr(result, name) for name in COPIED), result.elbos[0].latents[0].z]
    return [*(tensor.clone() for tensor in tensors), PendingReport(result, 0, 0, 0.0).read().skipped]


@pytest.mark.parametrize("flags", [(), ("--posterior", "residual"), ("--prior_const1", "--accumulate_steps", 2, "--n_batch", 4)],
                         ids=["plain", "residual", "in parts"])
def test_recorded_updates_are_the_updates_with_their_rate_batch_and_stop(small_hparams, small_batch, flags):
    plain, inner = (make_step(small_hparams("--sigma_param", "explin", *flags)) for _ in range(2))
    graph = ReplayedOnHost(inner)
    graphed = GraphedStep(inner, graph)
    figures = {}
    for name, step in (("plain", plain), ("graphed", graphed)):
        torch.manual_seed(1)
        figures[name], results = [], []
        for update in range(WARM_UP + 5):
            batch = [tensor.roll(update, dims=0) * (1 + update) for tensor in small_batch]
            if update == WARM_UP + 2:
                batch[0][0, 0, 0, 0] = torch.nan  # skipped, in the recording too
            results.append(step(*batch, torch.tensor(1e-3 * update).item(), update == WARM_UP + 1))
            figures[name] += [figures_of(result) for result in results[-2:-1]]  # read one update late, as a run does
    assert graph.recordings == 2  # gradients, and what follows when ranks have shared them
    assert torch.equal(trained(inner), trained(plain))
    torch.testing.assert_close(figures["graphed"], figures["plain"], rtol=0, atol=0, equal_nan=True)
    assert [each[-1] for each in figures["graphed"]] == [update == WARM_UP + 2 for update in range(WARM_UP + 4)]


def test_a_run_that_goes_on_and_warms_up_anew_computes_what_the_undisturbed_one_does(small_hparams, small_batch):
    ends = []
    for stops in ((), (5,)):
        inner = make_step(small_hparams("--sigma_param", "explin"))
        torch.manual_seed(1)
        for update in range(9):
            if update == 0 or update in stops:
                graphed = GraphedStep(inner, ReplayedOnHost(inner))
            graphed(*small_batch, 1e-3 * (1 + update) / 7)  # a rate that float32 rounds
        ends.append(trained(inner))
    assert torch.equal(*ends)


def test_a_batch_of_another_shape_is_refused(small_hparams, small_batch):
    inner = make_step(small_hparams())
    graphed = GraphedStep(inner, ReplayedOnHost(inner))
    graphed(*small_batch, 1e-3)
    with pytest.raises(ValueError, match=r"takes batches \[4, 3, 8, 8\], got \[1, 3, 8, 8\]"):
        graphed(small_batch.input[:1], small_batch.target[:1], 1e-3)
