"""Command lines and sets: the published values, who wins, and errors that help."""

import hashlib
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from stable_params import Constant, ExpLin, UpBounded, Vanilla
from vdvae.model.vae import VAE
from vdvae.settings.architecture_checks import check_architecture
from vdvae.settings.block_strings import Widths, parse_decoder_blocks, parse_encoder_blocks
from vdvae.settings.hparams import Hparams, HparamsError, load_hparams
from vdvae.settings.table import Effect, Settings, settings_that_change

LAYOUTS = json.loads((Path(__file__).parents[2] / "golden" / "state_dict_layouts.json").read_text())
CIFAR = ["--hps", "cifar10"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_sets_have_the_published_layout(name):
    with torch.device("meta"):
        state = VAE(load_hparams(["--hps", name])).state_dict()
    shapes = {key: list(value.shape) for key, value in state.items()}
    digest = hashlib.sha256(json.dumps(sorted(shapes.items())).encode()).hexdigest()
    expected = LAYOUTS[name]
    assert expected["state_dict"] in (None, shapes)
    assert sum(value.numel() for value in state.values()) == expected["n_params"]
    assert (len(shapes), digest) == (expected["n_tensors"], expected["sha256"])


def test_values_of_the_published_sets_beyond_the_layout():
    """SPEC of the original's sets: each differs from the one before as listed there."""
    names = ["lr", "wd", "warmup_iters", "n_batch", "ema_rate", "grad_clip", "skip_threshold", "epochs_per_eval", "dataset"]
    expected = {
        "cifar10": [2e-4, 0.01, 100, 16, 0.9999, 200, 400, 10, "cifar10"],
        "imagenet32": [1.5e-4, 0.01, 100, 8, 0.999, 200, 300, 1, "imagenet32"],
        "imagenet64": [1.5e-4, 0.01, 100, 4, 0.999, 220, 380, 1, "imagenet64"],
        "ffhq256": [1.5e-4, 0.01, 100, 1, 0.999, 130, 180, 1, "ffhq_256"],
        "ffhq1024": [7e-5, 0.01, 100, 1, 0.999, 360, 500, 1, "ffhq_1024"],
    }
    for name, values in expected.items():
        hparams = load_hparams(["--hps", name])
        assert [getattr(hparams, key) for key in names] == values, name


def test_flags_win_over_sets_and_later_sets_over_earlier(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('n_batch = 5\nlr = 1\nprior_const1 = true\n')
    hparams = load_hparams(["--hps", f"cifar10,{mine}", "--n_batch", "3"])
    assert (hparams.n_batch, hparams.lr, hparams.width, hparams.prior_const1) == (3, 1.0, 384, True)
    assert not load_hparams(["--hparam_sets", f"cifar10,{mine}", "--no-prior_const1"]).prior_const1


def test_switches_take_true_and_false():
    on, off = (load_hparams([*CIFAR, "--prior_const1", f"--prior_const1={word}"]) for word in ("true", "False"))
    assert on.prior_const1 and not off.prior_const1


def test_help_lists_every_setting_in_its_group(capsys):
    with pytest.raises(SystemExit) as end:
        load_hparams(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and all(f"--{item.name}" in text for item in fields(Settings))
    _, *groups = re.split(r"^(\S.*):$", text[text.index("The latents' scales"):], flags=re.MULTILINE)
    training = dict(zip(groups[::2], groups[1::2]))["Training"]
    assert "--lr X" in training and "--width" not in training


def test_scales_of_posterior_and_prior():
    both = load_hparams([*CIFAR, "--sigma_param", "explin"])
    assert (both.posterior_scale, both.prior_scale) == (ExpLin(), ExpLin())
    apart = load_hparams([*CIFAR, "--posterior_sigma_param", "upbounded2"])
    assert (apart.posterior_scale, apart.prior_scale) == (UpBounded(2.0), Vanilla())
    assert load_hparams([*CIFAR, "--prior_const1"]).prior_scale == Constant(1.0)


def test_stable_sets_the_scales_whatever_the_sets_say(tmp_path):
    (tmp_path / "own.toml").write_text('posterior_sigma_param = "vanilla"\nprior_sigma_param = "exp"\nposterior = "residual"')
    hparams = load_hparams(["--hps", f"cifar10,{tmp_path}/own.toml", "--stable"])
    assert (hparams.posterior_scale, hparams.prior_scale, hparams.posterior) == (ExpLin(), Constant(1.0), "absolute")


@pytest.mark.parametrize("flags, words", [
    (["--hps", "cifar"], ["'cifar'", "cifar10", "imagenet64"]),
    ([*CIFAR, "--sigma_parm", "exp"], ["--sigma_parm", "did you mean --sigma_param"]),
    ([*CIFAR, "--n_batc", "3"], ["--n_batc", "did you mean --n_batch"]),
    ([*CIFAR, "--sigma_param", "explim"], ["--sigma_param", "explim", "explin"]),
    ([*CIFAR, "--prior_sigma_param", "bounded2_1"], ["--prior_sigma_param", "bounded2_1"]),
    ([*CIFAR, "--prior_const1", "--prior_sigma_param", "exp"], ["--prior_const1", "--prior_sigma_param exp"]),
    ([*CIFAR, "--n_batch", "0"], ["n_batch is 0", "at least 1"]),
    ([*CIFAR, "--n_batch", "two"], ["--n_batch", "two"]),
    ([*CIFAR, "--lr", "nan"], ["lr is nan", "finite"]),
    ([*CIFAR, "--lr", "inf"], ["lr is inf", "finite"]),
    ([*CIFAR, "--bottleneck_multiple", "inf"], ["bottleneck_multiple is inf", "finite"]),
    ([*CIFAR, "--seed", str(2**64)], [f"seed is {2**64}", f"at most {2**62}"]),
    ([*CIFAR, "--port", "70000"], ["port is 70000", "at most 65535"]),
    ([*CIFAR, "--desc", "../other"], ["desc is '../other'", "inside save_dir"]),
    ([*CIFAR, "--desc", "/other"], ["desc is '/other'", "inside save_dir"]),
    ([*CIFAR, "--ema_rate", "1"], ["ema_rate is 1.0", "below 1"]),
    ([*CIFAR, "--skip_threshold", "0"], ["skip_threshold is 0.0", "-1"]),
    ([*CIFAR, "--dataset", "cifar"], ["'cifar'", "did you mean cifar10"]),
    ([*CIFAR, "--test_eval"], ["--restore_ema_path"]),
    ([*CIFAR, "--dataset", "folder"], ["folder", "--image_size"]),
    ([], ["enc_blocks is needed", "--hps"]),
    ([*CIFAR, "--enc_blocks", "32x11,32q2"], ["32q2", "RESdRATE"]),
    ([*CIFAR, "--dec_blocks", "1x1,4d1"], ["4d1", "RESmLOWER"]),
    ([*CIFAR, "--custom_width_str", "32-16"], ["32-16", "RES:WIDTH"]),
    ([*CIFAR, "--custom_width_str", "32:16"], ["16", "384", "resolution 32"]),
    ([*CIFAR, "--custom_width_str", "8:32"], ["32 at resolution 8", "384"]),
    ([*CIFAR, "--image_size", "64"], ["image_size is 64", "begin at 32", "sets for 64: imagenet64, own64"]),
    ([*CIFAR, "--image_size", "48"], ["image_size is 48", "sets for [28, 32, 64, 128, 256, 1024]"]),
    ([*CIFAR, "--dec_blocks", "1x1,4m1,32m4,16m4"], ["[16, 32]"]),
    ([*CIFAR, "--dec_blocks", "4x1,32m4"], ["end at resolution 1", "[4, 32]"]),
    ([*CIFAR, "--dec_blocks", "1x1,5m1,32m5"], ["works at 5", "[1, 4, 8, 16, 32]"]),
    ([*CIFAR, "--dec_blocks", "1x1,32m4"], ["32m4", "earlier block"]),
    ([*CIFAR, "--desc", ""], ["desc is ''", "name the run's folder"]),
    ([*CIFAR, "--prior_const1=perhaps"], ["--prior_const1", "'perhaps'"]),
    ([*CIFAR, "--change", "lr=1e-4"], ["--change lr=1e-4", "add --resume"]),
    ([*CIFAR, "--resume", "--change", "width=3"], ["'width' cannot change", "allowed: lr, "]),
    ([*CIFAR, "--resume", "--change", "lr"], ["--change lr", "write lr=NUMBER"]),
    ([*CIFAR, "--resume", "--change", "lr=-1"], ["lr is -1.0", "at least 0"]),
    ([*CIFAR, "--stable", "--sigma_param", "exp"], ["--stable", "leave out --sigma_param"]),
    ([*CIFAR, "--channels", "1"], ["channels is 1", "dataset cifar10 has 3", "leave out --channels"]),
    ([*CIFAR, "--bits", "16"], ["bits is 16", "dataset cifar10 has 8"]),
    (["--hps", "own32", "--bits", "17"], ["bits is 17", "at most 16"]),
    (["--hps", "own32", "--channels", "0"], ["channels is 0", "at least 1"]),
    (["--hps", "own32", "--pixel_std", "0"], ["pixel_std is 0.0", "above 0"]),
    ([*CIFAR, "--bottleneck_multiple", "0.001"], ["0.001", "384"]),
])
def test_errors_name_the_value_and_what_is_allowed(flags, words):
    with pytest.raises(HparamsError) as caught:
        load_hparams(flags)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("content, words", [
    ("n_bach = 4", ["n_bach", "did you mean n_batch"]),
    ("n_batch = 4.5", ["n_batch = 4.5", "int"]),
    ("n_batch = true", ["n_batch = True", "int"]),
    ("n_batch = ", ["not TOML"]),
    ("hps = 'cifar10'", ["unknown key 'hps'"]),
])
def test_a_set_of_ones_own_is_checked(tmp_path, content, words):
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(HparamsError) as caught:
        load_hparams(["--hps", f"cifar10,{path}"])
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_set_of_ones_own_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "own.toml").write_text("save_dir = '~/käse'", encoding=encoding)
    assert load_hparams(["--hps", f"cifar10,{tmp_path / 'own.toml'}"]).save_dir == str(Path.home() / "käse")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_set_in_another_encoding_is_an_error(tmp_path, encoding):
    (tmp_path / "own.toml").write_text("save_dir = 'käse'", encoding=encoding)
    with pytest.raises(HparamsError, match="own.toml: not UTF-8"):
        load_hparams(["--hps", f"cifar10,{tmp_path / 'own.toml'}"])


def test_block_strings():
    assert parse_encoder_blocks("8x2,8d2,4") == [(8, None), (8, None), (8, 2), (4, None)]
    assert parse_decoder_blocks("1x1,4m1,4x2") == [(1, None), (4, 1), (4, None), (4, None)]
    assert [Widths(8, "4:16,1:32")[res] for res in (8, 4, 1)] == [8, 16, 32]
    check_architecture("8x1,8d2,4d4,1x1", "1x1,4m1,8m4", Widths(8, "4:16,1:16"), 8, 0.25)


def test_the_effect_of_each_setting_is_what_the_code_does_with_it(small_hparams):
    """The model of settings with the effect MODEL or DATA is the model of all settings; resume, compare and encode rely on it."""
    hparams = small_hparams("--sigma_param", "explin", "--posterior", "residual", "--lr", "0.5", "--plain", "--desc", "other")
    of_model = {name: getattr(hparams, name) for name in settings_that_change(Effect.MODEL, Effect.DATA)}
    models = []
    for each in (hparams, Hparams(**of_model)):
        torch.manual_seed(0)
        models.append(VAE(each))
    assert str(models[0]) == str(models[1]) and models[0].state_dict().keys() == models[1].state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters()))
    assert models[0].decoder.dec_blocks[0].scales == models[1].decoder.dec_blocks[0].scales == (ExpLin(), ExpLin(), True)


def test_each_setting_has_one_effect():
    names = [item.name for item in fields(Settings)]
    assert settings_that_change(*Effect) == names
    assert sorted(sum((settings_that_change(effect) for effect in Effect), [])) == sorted(names)
