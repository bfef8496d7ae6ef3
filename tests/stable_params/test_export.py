"""torch.export, default and strict: an exported VAE step trains to the weights of the eager one."""

import pytest
import torch
from torch import nn

from stable_params import PARAMETERIZATIONS, Exp, ExpLin, standard_normal_like


class Step(nn.Module):
    """A linear VAE of one hidden value and its loss: a KL between two learned normals, a draw, a KL to N(0, 1)."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.encoder, self.prior, self.decoder = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(2, 3)

    def forward(self, x, eps):
        posterior = self.form.normal(*self.encoder(x).chunk(2, 1))
        prior = self.form.normal(*self.prior(x).chunk(2, 1))
        z = posterior.rsample(eps)
        rate = posterior.kl(prior) + prior.kl(standard_normal_like(z))
        return rate.sum() + (self.decoder(z) - x).square().sum()


def trained(step, model):
    """The weights after three updates."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x, eps = torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)
        optimizer.zero_grad()
        step(x, eps).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
@pytest.mark.parametrize("form", [form for name, form in PARAMETERIZATIONS.items() if name in ("explin", "upbounded", "bounded")],
                         ids=lambda form: form.flag)
def test_an_exported_step_trains_as_the_eager_one(form, strict):
    eager = Step(form)
    exported = torch.export.export(Step(form), (torch.zeros(5, 3), torch.zeros(5, 2)), strict=strict).module()
    expected = trained(eager, eager)
    torch.testing.assert_close(trained(exported, exported), expected, rtol=1e-6, atol=1e-7)
    assert all((value != Step(form).get_parameter(name)).any() for name, value in expected.items())


@pytest.mark.parametrize("form", [Exp(), ExpLin()], ids=lambda form: form.flag)
def test_an_exported_kl_keeps_its_gradient_at_zero(form):
    # Every prior starts at raw = 0, where two branches meet.
    class KL(nn.Module):
        def forward(self, raw):
            return form.normal(raw, raw).kl(standard_normal_like(raw)).sum()

    raw = torch.tensor([0.0, 0.5], requires_grad=True)
    exported = torch.export.export(KL(), (raw.detach(),)).module()
    torch.testing.assert_close(*(torch.autograd.grad(f(raw), raw)[0] for f in (KL(), exported)))
