"""Which model is selected, and where a loss that is not finite is located."""

import math

import pytest
import torch

from experiments.mlp_vae.model import CELLS, MlpVaes
from experiments.mlp_vae.training import Selection, Training


def test_the_model_with_the_lowest_validation_value_is_kept_for_each_member():
    parameters = [torch.zeros(3, 1, 1)]
    selection = Selection(parameters)
    courses = {0: [5.0, 3.0, 4.0, math.nan], 1: [2.0, math.nan, 1.0, 1.5], 2: [math.nan] * 4}
    for epoch, values in enumerate(zip(*courses.values()), start=1):
        parameters[0].fill_(epoch)
        selection.offer(torch.tensor(values, dtype=torch.float64), epoch, parameters)
    assert selection.epoch.tolist() == [2, 3, 0] and selection.value.tolist() == [3.0, 1.0, math.inf]
    assert selection.parameters[0].flatten().tolist() == [2.0, 3.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_first_step_whose_loss_is_not_finite_is_located_for_its_member_alone(monkeypatch, bad):
    """40 images in batches of 20 are two steps an epoch; the second member's loss goes bad in the third and the fourth."""
    images = torch.randint(0, 256, (40, 784), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    training = Training([CELLS[4]] * 2, [0, 1], 1e-3, images, batch_size=20)
    original, steps = MlpVaes.negative_elbo, []

    def negative_elbo(self, *batch):
        steps.append(1)
        spoiled = torch.tensor([[0.0], [bad if len(steps) >= 3 else 0.0]])
        return original(self, *batch) + spoiled

    monkeypatch.setattr(MlpVaes, "negative_elbo", negative_elbo)
    for _ in range(2):
        training.train_epoch()
    assert training.first_bad.tolist() == [0, 3] and training.first_bad_epoch() == [0, 2]
