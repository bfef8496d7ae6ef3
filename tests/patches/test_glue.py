"""The scales that are copied into a checkout: flags, log sigmas and KL are those of stable_params."""

import argparse
import importlib.util
import math
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stable_params import Constant, parse_parameterization

ROOT = Path(__file__).resolve().parents[2]
GLUE = ROOT / "patches" / "glue"


def load(name):
    spec = importlib.util.spec_from_file_location(name, GLUE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scales = load("stable_scales")


class Dictionary(dict):
    """Hyper-parameters as the original keeps them."""

    __getattr__ = dict.get


HOLDERS = [Dictionary, lambda **values: SimpleNamespace(**values), dict]
RAW = torch.tensor([-200.0, -60.0, -1.0, 0.0, 0.5, 3.0, 60.0])


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(exit_on_error=False)
    scales.add_scale_arguments(parser)
    return parser


def test_flags_and_their_defaults(parser):
    assert vars(parser.parse_args([])) == {
        "sigma_param": "vanilla", "posterior_sigma_param": None, "prior_sigma_param": None, "prior_const1": False,
    }  # fmt: skip
    given = ["--sigma_param", "explin", "--posterior_sigma_param", "upbounded1", "--prior_sigma_param", "exp",
        "--prior_const1"]
    assert list(vars(parser.parse_args(given)).values()) == ["explin", "upbounded1", "exp", True]


@pytest.mark.parametrize("flag", ["--sigma_param", "--posterior_sigma_param", "--prior_sigma_param"])
def test_unknown_parameterization_is_an_error_that_lists_what_is_allowed(parser, flag):
    message = f"{flag}: bad scale parameterization 'explim'.*allowed: vanilla, .*explin"
    with pytest.raises(argparse.ArgumentError, match=message):
        parser.parse_args([flag, "explim"])


def test_a_set_of_hyperparameters_is_checked_like_a_flag(parser):
    parser.set_defaults(sigma_param="explim")
    with pytest.raises(argparse.ArgumentError, match="explim"):
        parser.parse_args([])


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("values", [
    {}, {"sigma_param": None, "prior_const1": None}, {"sigma_param": "vanilla", "prior_const1": False},
])  # fmt: skip
def test_vanilla_gives_back_the_very_tensor(holder, values):
    model = scales.Scales(holder(**values))
    assert model.vanilla
    for method in ("posterior_log_sigma", "prior_log_sigma"):
        assert getattr(model, method)(RAW) is RAW


WHICH = [  # hyper-parameters, the posterior's and the prior's parameterization
    ({"sigma_param": "explin"}, "explin", "explin"),
    ({"sigma_param": "explin", "posterior_sigma_param": "upbounded1"}, "upbounded1", "explin"),
    ({"sigma_param": "explin", "prior_sigma_param": "exp"}, "explin", "exp"),
    ({"posterior_sigma_param": "explin"}, "explin", "vanilla"),
    ({"prior_sigma_param": "softplus0.6931472"}, "vanilla", "softplus0.6931472"),
    ({"prior_const1": True}, "vanilla", Constant()),
    ({"sigma_param": "explin", "prior_const1": True}, "explin", Constant()),
]


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize(("values", "posterior", "prior"), WHICH)
def test_log_sigmas_are_those_of_stable_params(holder, values, posterior, prior):
    model = scales.Scales(holder(**values))
    prior = prior if isinstance(prior, Constant) else parse_parameterization(prior)
    posterior = parse_parameterization(posterior)
    assert model.vanilla is (posterior.flag == "vanilla")
    assert torch.equal(model.posterior_log_sigma(RAW), posterior(RAW).log_sigma)
    assert torch.equal(model.prior_log_sigma(RAW), prior(RAW).log_sigma)


def test_constant_prior_and_a_prior_of_its_own_exclude_each_other():
    with pytest.raises(ValueError, match="prior_const1 fixes the prior's scale, so prior_sigma_param 'exp' must not"):
        scales.Scales({"prior_const1": True, "prior_sigma_param": "exp"})


def test_unknown_parameterization_in_the_hyperparameters_is_an_error():
    with pytest.raises(ValueError, match="'explim'.*allowed"):
        scales.Scales({"sigma_param": "explim"})


def test_kl_is_that_of_stable_params_with_its_gradients():
    model, explin = scales.Scales({"sigma_param": "explin"}), parse_parameterization("explin")
    torch.manual_seed(0)
    mine = [(torch.randn(500) * 4).requires_grad_() for _ in range(4)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in mine]
    loc, raw, prior_loc, prior_raw = mine
    kl = model.kl(loc, model.posterior_log_sigma(raw), prior_loc, model.prior_log_sigma(prior_raw))
    expected = explin.normal(theirs[0], theirs[1]).kl(explin.normal(theirs[2], theirs[3]))
    torch.testing.assert_close(kl, expected, rtol=2e-6, atol=0)
    (kl.sum() + 0).backward(), expected.sum().backward()
    for one, other in zip(mine, theirs):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_kl_holds_where_the_original_breaks():
    zero, far = torch.zeros(1), torch.tensor([-60.0])
    assert scales.Scales({"sigma_param": "exp"}).kl(zero, far, zero, far).item() == 0
    assert math.isnan((far.exp() ** 2 / far.exp() ** 2).item())


@pytest.mark.parametrize("trained, loaded, told", [
    ({}, {}, None), ({"sigma_param": "explin"}, {"sigma_param": "explin"}, None), ({"prior_const1": True}, {"prior_const1": True}, None),
    ({"sigma_param": "explin"}, {}, "trained with posterior explin, prior explin, and this model has posterior vanilla, prior vanilla"),
    ({}, {"prior_const1": True}, "trained with posterior vanilla, prior vanilla, and this model has posterior vanilla, prior constant1"),
])  # fmt: skip
def test_a_checkpoint_warns_a_model_with_other_scales(trained, loaded, told, tmp_path):
    torch.save(torch.nn.Sequential(scales.Scales(trained)).state_dict(), tmp_path / "weights")
    model = torch.nn.Sequential(scales.Scales(loaded))
    with warnings.catch_warnings(record=True) as caught:
        model.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    assert [str(each.message) for each in caught] == ([f"these weights were {told}"] if told else [])


def test_a_checkpoint_whose_names_were_averaged_or_overwritten_loads_with_a_warning():
    model = torch.nn.Sequential(scales.Scales({"sigma_param": "explin"}))
    names = model.state_dict()["0.names"]
    model.load_state_dict({"0.names": 0.999 * names + 0.001 * names})
    with pytest.warns(UserWarning, match="trained with"):
        model.load_state_dict({"0.names": -names})


def test_the_weights_of_a_vanilla_model_have_the_names_that_they_had():
    assert not scales.Scales({}).state_dict()


def test_copy_of_stable_params_in_a_package_is_found(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    shutil.copy(GLUE / "stable_scales.py", package)
    shutil.copytree(ROOT / "stable_params", package / "stable_params")
    code = "from pkg.stable_scales import Scales; import stable_params; print(stable_params.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.stdout.strip() == str(package / "stable_params" / "__init__.py"), done.stderr


def test_without_stable_params_the_message_says_where_it_was_looked_for(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="stable_params is not installed and there is no copy of it beside"):
        load("stable_scales")
