"""The train step's benchmark on a small model: the rows that it prints, a stand-in for the original among them."""

import re
import weakref
from pathlib import Path

import pytest
import torch

from benchmarks.cost import measuring
from benchmarks.cost.train_step import SCALES, Comparison, Contestant, main, ours
from vdvae.settings.hparams import load_hparams
from vdvae.model.vae import VAE

SMALL = '''dataset = "cifar10"
image_size = 8
width = 16
zdim = 4
num_mixtures = 2
dec_blocks = "1x1,4m1,8m4"
enc_blocks = "8x1,8d2,4d4,1x1"
'''
CHECKOUT = {
    "hps.py": '''
class Hyperparams(dict):
    __getattr__ = dict.__getitem__

def add_vae_arguments(parser):
    for name in ("hps", "dec_blocks", "enc_blocks", "custom_width_str"):
        parser.add_argument("--" + name)
    for name in ("width", "zdim", "num_mixtures", "no_bias_above", "n_batch", "seed"):
        parser.add_argument("--" + name, type=int)
    for name in ("bottleneck_multiple", "lr", "wd", "grad_clip", "skip_threshold", "ema_rate", "adam_beta1",
                 "adam_beta2", "warmup_iters"):
        parser.add_argument("--" + name, type=float)
    return parser

def parse_args_and_update_hparams(values, parser, words):
    values.update(vars(parser.parse_args(words)))
''',
    "vae.py": '''
from apex.optimizers import FusedAdam
from torch import nn

class VAE(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.layer = nn.Linear(3, values.width)
''',
    "train.py": '''
def training_step(values, data_input, target, vae, ema_vae, optimizer, iterate):
    assert data_input.shape == target.shape == (2, 8, 8, 3) and values.width == 16 and values.image_size == 8
    vae.zero_grad()
    vae.layer(data_input.cuda()).square().mean().backward()
    optimizer.step()
''',
}


@pytest.fixture()
def small(tmp_path) -> Path:
    """A set of hyper-parameters."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture()
def quick(monkeypatch):
    monkeypatch.setattr("benchmarks.cost.train_step.peak_flops", lambda precision, device: 1e12)


def rows(printed: str) -> dict[str, list[str]]:
    """Name to cells of every row that has a name."""
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in printed.splitlines() if line.startswith("| ")]
    return {name: rest for name, *rest in cells}


def test_one_run_prints_the_switches_and_the_parameterizations(small, quick, capsys):
    assert main(["--hps", str(small), "--n_batch", "2", "--rounds", "1", "--device", "cpu"]) == 0
    printed = rows(capsys.readouterr().out)
    names = ["plain float32", "bf16", "checkpoint_blocks", "bf16, checkpoint_blocks", "accumulate_steps 2"]
    assert list(printed) == ["update", *names, *SCALES]
    for reference in ("plain float32", "vanilla"):
        assert printed[reference][1] == printed[reference][3] == "1.00"
    operators, pointwise = (int(cell.replace(",", "")) for cell in printed["plain float32"][5:])
    assert 100 < pointwise < operators


@pytest.mark.parametrize("only, names", [("scales", ["vanilla", "explin"]), ("memory", [
    "plain float32", "bf16", "checkpoint_blocks", "bf16, checkpoint_blocks"])])
def test_one_table_alone(small, quick, capsys, monkeypatch, only, names):
    monkeypatch.setattr("benchmarks.cost.train_step.SCALES", {name: SCALES[name] for name in ("vanilla", "explin")})
    main(["--hps", str(small), "--n_batch", "1", "--rounds", "1", "--device", "cpu", "--only", only])
    assert list(rows(capsys.readouterr().out)) == ["update", *names]


def test_an_update_is_measured_in_turn_with_the_reference_and_a_recorded_one_alone(quick, capsys):
    calls, made = [], []

    def make(name, recorded=False):
        assert all(earlier() is None for earlier in made[1:]), "an update other than the reference is still in memory"
        contestant = Contestant(lambda: calls.append(name), 1, 1, 1, "fp32", compiled=True, recorded=recorded)
        made.append(weakref.ref(contestant))
        return contestant

    comparison = Comparison("plain", 2, "cpu", 1)
    for arguments in [("plain",), ("eager",), ("graph", True), ("last",)]:
        comparison.add(arguments[0], lambda: make(*arguments))
    assert calls == ["plain", "plain", "eager", "plain", "plain", "eager", "graph", "graph", "last", "plain", "plain", "last"]
    assert comparison.end() == 0 and list(rows(capsys.readouterr().out))[1:] == ["plain", "eager", "graph", "last"]


def test_an_update_that_fails_leaves_a_row_and_an_exit_code(small, quick, capsys, monkeypatch):
    flags = {"broken reference": ["--accumulate_steps", "3"], "broken": ["--precision", "tf32"], "sound": []}
    monkeypatch.setattr("benchmarks.cost.train_step.SCALES", flags)
    assert main(["--hps", str(small), "--n_batch", "2", "--rounds", "1", "--device", "cpu", "--only", "scales"]) == 1
    printed = rows(capsys.readouterr().out)
    assert printed["broken reference"][0].startswith("failed: HparamsError: accumulate_steps")
    assert printed["broken"][0].startswith("failed: HparamsError: precision is 'tf32'")
    assert float(printed["sound"][0]) > 0 and printed["sound"][1] == printed["sound"][3] == "–"


def test_memory_is_that_of_an_update_and_of_all_that_is_kept(small):
    hparams = [load_hparams(["--hps", str(small), "--plain", *flags]) for flags in ([], ["--checkpoint_blocks"])]
    plain, again = (ours(each, torch.zeros(2, 8, 8, 3, dtype=torch.uint8)) for each in hparams)
    weights = list(VAE(hparams[0]).parameters())
    size = sum(weight.nbytes for weight in weights)
    assert plain.kept_bytes == again.kept_bytes == 4 * size + 4 * len(weights)  # weights, averages, two moments, steps
    assert plain.kept_bytes + size < again.peak_bytes < plain.peak_bytes


def test_peaks_are_measured_for_the_rows_precisions_alone(small, capsys, monkeypatch):
    measured = []
    monkeypatch.setattr("benchmarks.cost.train_step.peak_flops", lambda precision, device: measured.append(precision) or 1e12)
    monkeypatch.setattr("benchmarks.cost.train_step.SCALES", {"vanilla": ["--precision", "fp32"]})
    main(["--hps", str(small), "--n_batch", "1", "--rounds", "1", "--device", "cpu", "--only", "scales"])
    assert set(measured) == {"fp32"} and "Matrix products reach 1 TFLOP/s in fp32." in capsys.readouterr().out


@pytest.mark.parametrize("flops, products", [(1e3, 1), (1e9, 2), (1e15, 7)])
def test_a_peak_ends_with_the_first_product_that_is_long_enough_to_measure(monkeypatch, flops, products):
    """On a slow machine one product of size 128, on a fast one all sizes up to 8192; products of shapes without numbers."""
    sizes = []

    def seconds(run, device):
        sizes.append(len(run()))
        return 2 * sizes[-1] ** 3 / flops

    monkeypatch.setattr(measuring, "seconds", seconds)
    monkeypatch.setattr(torch, "randn", lambda *shape, device: torch.empty(shape, device="meta"))
    assert measuring.peak_flops.__wrapped__("fp32", "cpu") == pytest.approx(flops)
    assert sizes == [128 * 2**i for i in range(products) for _ in range(3)]


def test_the_original_is_measured_in_turn_from_a_checkout(small, run_python, tmp_path):
    for name, text in CHECKOUT.items():
        (tmp_path / name).write_text(text)
    done = run_python("-m", "benchmarks.cost.train_step", "--hps", small, "--n_batch", 2, "--rounds", 1, "--device", "cpu",
                      "--only", "switches", "--upstream", tmp_path)
    assert done.returncode == 0, done.stderr
    printed = rows(done.stdout)
    assert printed["original"][1] == printed["original"][3] == "1.00" and "speed against original" in done.stdout


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--upstream", str(tmp_path)])
    assert f"--upstream {tmp_path}: no vae.py there" in capsys.readouterr().err
