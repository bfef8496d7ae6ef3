"""One update: what is skipped changes nothing, and the reasons are distinguished."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.records.step_report import skip_reasons
from vdvae.step.locate import locate, locate_high_gradient, locate_loss, locate_nan_gradient
from vdvae.step.optimizer import make_optimizer
from vdvae.step.spectral import SpectralPenalty
from vdvae.step.step_result import PendingReport
from vdvae.step.train_step import TrainStep, average_of


def make_step(hparams) -> TrainStep:
    torch.manual_seed(0)
    vae = VAE(hparams)
    penalty = SpectralPenalty(vae, hparams.seed) if hparams.spectral_reg else None
    return TrainStep(vae, average_of(vae), make_optimizer(hparams, vae.parameters()), hparams, World(), penalty)


def everything(step: TrainStep) -> torch.Tensor:
    """All that an update may change: weights, averaged weights, moments (0 before the first update) and step counts."""
    weights = list(step.model.parameters())
    tensors = [*weights, *step.average.parameters()]
    for weight in weights:
        state = step.optimizer.state[weight]
        tensors += [state.get(name, torch.zeros_like(weight)) for name in ("exp_avg", "exp_avg_sq")]
        tensors.append(state.get("step", torch.zeros(())))
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def report(result) -> dict:
    return PendingReport(result, 0, 0, 0.0).read().reasons


def assert_skipped(step: TrainStep, batch, reasons: dict):
    before = everything(step).clone()
    result = step(*batch, 1e-3)
    assert report(result) == reasons
    assert torch.equal(everything(step), before)
    return result


def test_ordinary_update_moves_weights_and_average(small_hparams, small_batch):
    step = make_step(small_hparams("--ema_rate", 0.75))
    weights = [parameter.detach().clone() for parameter in step.model.parameters()]
    assert report(step(*small_batch, 1e-3)) == {}
    for before, now, average in zip(weights, step.model.parameters(), step.average.parameters()):
        torch.testing.assert_close(average, 0.75 * before + 0.25 * now)
    assert any(not torch.equal(before, now) for before, now in zip(weights, step.model.parameters()))


def test_update_equals_clip_and_adamw_of_pytorch(small_hparams, small_batch):
    step = make_step(small_hparams("--grad_clip", 0.01))
    plain = VAE(small_hparams())
    plain.load_state_dict(step.model.state_dict())
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.9), weight_decay=0.01)
    for seed in (1, 2):
        torch.manual_seed(seed)
        norm = step(*small_batch, 1e-3).grad_norm
        torch.manual_seed(seed)
        optimizer.zero_grad()
        plain(*small_batch).negative_elbo.backward()
        torch.testing.assert_close(torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.01), norm)
        optimizer.step()
    for ours, theirs in zip(step.model.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_gradient_below_grad_clip_is_not_scaled(small_hparams, small_batch):
    step = make_step(small_hparams("--grad_clip", 1e4))
    before = step(*small_batch, 1e-3).grad_norms
    torch.testing.assert_close(torch.stack([weight.grad.norm() for weight in step.parameters]), before)


def plain_update(step: TrainStep, batch, lr: float) -> bool:
    """What TrainStep does, tensor by tensor, by a host that looks at the figures; returns whether it skipped."""
    hparams, weights = step.hparams, step.parameters
    step.optimizer.zero_grad()
    elbo = step.model(*batch)
    elbo.negative_elbo.backward()
    norm = torch.nn.utils.clip_grad_norm_(weights, hparams.grad_clip, foreach=False).item()
    if not (elbo.distortion.isfinite().all() and elbo.rate.isfinite().all() and norm < hparams.skip_threshold):
        return True
    step.optimizer.param_groups[0]["lr"] = lr
    step.optimizer.step()
    with torch.no_grad():
        for average, weight in zip(step.average.parameters(), weights):
            average += (weight - average) * (1 - hparams.ema_rate)
    return False


@pytest.mark.parametrize("flag", ["vanilla", "explin", "upbounded1"])
def test_updates_are_bitwise_those_of_a_host_that_looks_at_every_figure(small_hparams, small_batch, flag):
    flags = ("--sigma_param", flag, "--grad_clip", 0.2, "--skip_threshold", 2, "--wd", 0.01)
    step, plain = make_step(small_hparams(*flags)), make_step(small_hparams(*flags))
    skipped = []
    for update in range(6):
        batch = [tensor * (10 if update == 2 else 1) for tensor in small_batch]
        if update == 4:
            batch[0][0, 0, 0, 0] = torch.nan
        torch.manual_seed(update)
        skipped.append(PendingReport(step(*batch, 3e-4), update, 0, 3e-4).read().skipped)
        torch.manual_seed(update)
        assert plain_update(plain, batch, 3e-4) == skipped[-1]
        assert torch.equal(everything(step), everything(plain))
    assert skipped == [update in (2, 4) for update in range(6)]


def test_gradient_above_the_threshold_is_skipped(small_hparams, small_batch):
    assert_skipped(make_step(small_hparams("--skip_threshold", 1e-6)), small_batch, {"high_grad": [0]})


def test_a_gradient_of_exactly_the_threshold_is_skipped(small_hparams, small_batch):
    free = make_step(small_hparams("--skip_threshold", -1))
    torch.manual_seed(1)
    norm = free(*small_batch, 1e-3).grad_norm.item()
    limited = make_step(small_hparams("--skip_threshold", norm))
    torch.manual_seed(1)
    assert assert_skipped(limited, small_batch, {"high_grad": [0]}).grad_norm == norm


def test_high_gradient_is_put_down_to_the_block_whose_kl_has_it(small_hparams, small_batch):
    step = make_step(small_hparams("--sigma_param", "explin"))
    step.model.decoder.dec_blocks[3].prior.c4.bias.data[4:8] = -10.0  # a narrow prior: the KL is about exp(20)
    result = assert_skipped(step, small_batch, {"high_grad": [0]})
    origin = locate_high_gradient(result.elbos[0])
    assert (origin.origin, origin.block, origin.resolution, origin.quantity) == ("decoder", 3, 8, "kl_gradient")
    assert origin.prior_log_sigma_max == -10.0


def test_threshold_minus_one_turns_the_limit_off(small_hparams, small_batch):
    assert report(make_step(small_hparams("--skip_threshold", -1))(*small_batch, 1e-3)) == {}


def test_nan_gradient_is_skipped_even_without_a_limit_and_located(small_hparams, small_batch):
    step = make_step(small_hparams("--skip_threshold", -1))
    spoil = torch.full_like
    step.model.decoder.dec_blocks[2].resnet.register_full_backward_hook(
        lambda module, inputs, outputs: (spoil(inputs[0], torch.nan),))
    result = assert_skipped(step, small_batch, {"grad_nan": [0]})
    names = [name for name, _ in step.model.named_parameters()]
    origin = locate_nan_gradient(result.elbos[0], names, result.grad_norms)
    assert (origin.origin, origin.block, origin.resolution) == ("decoder", 2, 4)


def test_nan_in_the_input_starts_in_the_encoder(small_hparams, small_batch):
    small_batch.input[1, 0, 3, 3] = torch.nan
    result = assert_skipped(make_step(small_hparams()), small_batch, {"rate_nan": [0], "distortion_nan": [0]})
    assert locate_loss(result.elbos[0]).origin == "encoder"


def test_nan_in_the_encoders_last_block_starts_in_the_encoder(small_hparams, small_batch):
    step = make_step(small_hparams())
    step.model.encoder.enc_blocks[-1].register_forward_hook(lambda module, inputs, output: output * torch.nan)
    result = assert_skipped(step, small_batch, {"rate_nan": [0], "distortion_nan": [0]})
    assert locate_loss(result.elbos[0]).origin == "encoder"


def test_nan_in_the_target_starts_in_the_likelihood(small_hparams, small_batch):
    small_batch.target[1, 3, 3, 0] = torch.nan
    result = assert_skipped(make_step(small_hparams()), small_batch, {"distortion_nan": [0]})
    assert locate_loss(result.elbos[0]).origin == "likelihood"


NORMAL = ("--likelihood", "normal", "--pixel_sigma_param", "exp")


@pytest.mark.parametrize("log_sigma, reason", [(-60.0, "distortion_nan"), (-12.0, "high_grad"), (torch.nan, "distortion_nan")])
def test_a_decoded_scale_that_collapses_is_named_with_its_pixel_and_value(small_hparams, small_batch, log_sigma, reason):
    """The scale of one channel, green; at -60 the squared error overflows."""
    step = make_step(small_hparams(*NORMAL))
    layer = step.model.decoder.out_net.out_conv
    layer.weight.data[4] = 0
    layer.bias.data[4] = log_sigma
    result = step(*small_batch, 1e-3)
    assert report(result) == {reason: [0]}
    origin = locate(reason, result, [name for name, _ in step.model.named_parameters()])
    row, column, channel = map(int, origin.pixel.split(","))
    assert origin.origin == "likelihood" and 0 <= row < 8 and 0 <= column < 8 and channel == 1
    assert repr(origin.pixel_log_sigma) == repr(log_sigma)


def test_a_kl_that_blows_up_is_not_blamed_on_normal_pixels(small_hparams, small_batch):
    step = make_step(small_hparams(*NORMAL, "--sigma_param", "explin"))
    step.model.decoder.dec_blocks[3].prior.c4.bias.data[4:8] = -10.0
    origin = locate("high_grad", assert_skipped(step, small_batch, {"high_grad": [0]}), [])
    assert (origin.origin, origin.block) == ("decoder", 3) and origin.pixel and -3 < origin.pixel_log_sigma < 3


@pytest.mark.parametrize("block, resolution", [(1, 4), (3, 8)])
def test_the_originals_kl_blows_up_in_a_block_that_is_named_and_explin_does_not(small_hparams, small_batch, block, resolution):
    for flag, reasons in (("vanilla", {"rate_nan": [0]}), ("explin", {})):
        step = make_step(small_hparams("--sigma_param", flag, "--skip_threshold", -1))
        part = step.model.decoder.dec_blocks[block]
        part.z_proj.weight.data.zero_()  # large draws stay out of the state
        with torch.no_grad():
            for raw in (part.enc.c4.bias[4:8], part.prior.c4.bias[4:8]):
                raw.fill_(60.0)  # exp(60)² overflows in float32
        result = step(*small_batch, 1e-3)
        assert report(result) == reasons
    step = make_step(small_hparams("--sigma_param", "vanilla"))
    part = step.model.decoder.dec_blocks[block]
    part.z_proj.weight.data.zero_()
    part.prior.c4.bias.data[4:8] = 60.0
    part.enc.c4.bias.data[4:8] = 61.0
    origin = locate_loss(assert_skipped(step, small_batch, {"rate_nan": [0]}).elbos[0])
    assert (origin.origin, origin.block, origin.resolution, origin.quantity) == ("decoder", block, resolution, "kl")
    assert origin.prior_log_sigma_min == origin.prior_log_sigma_max == 60.0
    assert 60 < origin.posterior_log_sigma_min <= origin.posterior_log_sigma_max < 62
    assert 0 < origin.max_loc_diff_over_sigma < 1e-20


ATEN = torch.ops.aten
READ_BACK = {each.default for each in (ATEN._local_scalar_dense, ATEN.nonzero, ATEN.masked_select, ATEN.equal)}


class NoReadBack(TorchDispatchMode):
    """Fails on every operation that hands a tensor's value to the host, which on a GPU would wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in READ_BACK, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("flags", [("--sigma_param", "vanilla"), ("--sigma_param", "explin", "--skip_threshold", 1e-6),
                                   ("--spectral_reg", 0.1), ("--precision", "bf16"), ("--checkpoint_blocks",),
                                   ("--n_batch", 4, "--accumulate_steps", 2), ("--posterior", "residual"),
                                   ("--sigma_param", "upbounded1", "--prior_const1"),
                                   ("--sigma_param", "bounded0.1_1"), ("--likelihood", "normal"),
                                   ("--likelihood", "normal", "--pixel_sigma_param", "global"), ("--likelihood", "bernoulli")])
def test_the_host_waits_for_nothing_whether_the_update_is_skipped_or_not(small_hparams, small_batch, flags):
    step = make_step(small_hparams(*flags))
    with NoReadBack():
        pending = [PendingReport(step(*small_batch, 1e-3), i, 0, 1e-3) for i in range(2)]
    assert [report.read().skipped for report in pending] == ["1e-06" in map(str, flags)] * 2


def test_reasons_name_the_ranks_they_are_blamed_on():
    fine, nan_rate = {"elbo": 2.0, "distortion": 1.0, "rate": 1.0}, {"elbo": torch.nan, "distortion": 1.0, "rate": torch.nan}
    infinite = {"elbo": torch.inf, "distortion": torch.inf, "rate": 1.0}
    worse = {"elbo": 9.0, "distortion": 8.0, "rate": 1.0}
    assert skip_reasons([fine, nan_rate, infinite], torch.nan) == {"rate_nan": [1], "distortion_nan": [2]}
    assert skip_reasons([fine, worse, fine], torch.nan) == {"grad_nan": [1]}
    assert skip_reasons([fine, worse, fine], 500.0) == {"high_grad": [1]}


@pytest.mark.parametrize("flags", [(), ("--checkpoint_blocks",), ("--n_batch", 4, "--accumulate_steps", 2), ("--spectral_reg", 1e-3)],
                         ids=["whole", "checkpointed", "in parts", "penalized"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_lie_in_memory_as_their_weights_do(small_hparams, small_batch, precision, flags):
    # PyTorch's fused AdamW takes both as they come; with unlike strides it would update weights by others' gradients.
    step = make_step(small_hparams("--precision", precision, *flags))
    layout = torch.channels_last if precision == "bf16" else torch.contiguous_format
    step(small_batch.input.contiguous(memory_format=layout), small_batch.target, 1e-3)
    for name, weight in step.model.named_parameters():
        strides = [[s for s, size in zip(t.stride(), t.shape) if size > 1] for t in (weight, weight.grad)]
        assert strides[0] == strides[1], name
