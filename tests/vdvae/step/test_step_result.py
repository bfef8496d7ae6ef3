"""The report of an update has the device's figures, each under its own name."""

import pytest
import torch

from vdvae.step.step_result import PendingReport, StepResult


@pytest.mark.parametrize("spectral", [None, 9.5])
@pytest.mark.parametrize("skip, stop", [(False, True), (True, False)])
def test_a_report_has_the_figures_of_its_update(spectral, skip, stop):
    by_rank = [{"elbo": 3.0, "distortion": 2.0, "rate": 1.0}, {"elbo": 9.0, "distortion": 5.0, "rate": 4.0}]
    losses = torch.tensor([list(rank.values()) for rank in by_rank])
    norms = None if spectral is None else torch.tensor(spectral)
    result = StepResult(losses, torch.tensor(7.0), torch.tensor([7.0]), torch.tensor(skip), torch.tensor(stop), (), norms)
    report = PendingReport(result, iteration=6, epoch=2, lr=0.5).read()
    assert (report.iteration, report.epoch, report.lr, report.losses) == (6, 2, 0.5, by_rank)
    assert (report.grad_norm, report.stop, report.spectral_norms) == (7.0, stop, spectral)
    assert report.reasons == ({"high_grad": [1]} if skip else {})
