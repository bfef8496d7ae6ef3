"""A patched checkout at work: bitwise what it was without flags, the library's figures with them, readable events."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stable_params import Constant, parse_parameterization
from tests.patches.fork import FILES
from vdvae.records.run_log import read_run

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import hashlib, json, sys
import torch
from hps import settings
from model import Model
from train import logger, train
H = settings(sys.argv[2:])
torch.set_num_threads(1)
torch.manual_seed(0)
model = Model(H)
log = logger(H)
for key in sorted(H):
    log(type='hparam', key=key, value=H[key])
data = [torch.randn(2, 3, 4, 4) for _ in range(6)]
data[3] = data[3] * (float('nan') if sys.argv[1] == 'nan' else 1)
train(H, model, data, log)
with torch.no_grad():
    weights = b''.join(p.numpy().tobytes() for p in [*model.parameters(), model.free(2, 0.7)])
print(hashlib.sha256(weights).hexdigest())
"""


def checkout(folder, patch=True):
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    if patch:
        done = subprocess.run([sys.executable, "-m", "patches", "--write", str(folder), "--vendor"], cwd=ROOT)
        assert done.returncode == 0
    return folder


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    return checkout(folder / "plain", patch=False), checkout(folder / "patched")


def run(tree, save_dir, *flags, data="numbers"):
    save_dir.mkdir()
    command = [sys.executable, "-c", PROGRAM, data, "--save_dir", str(save_dir), *flags]
    # Outside the project's folder: what runs is the copied stable_params.
    return subprocess.run(command, cwd=tree, capture_output=True, text=True)


def test_without_flags_the_weights_and_samples_after_training_are_those_of_the_unpatched_tree(trees, tmp_path):
    plain, patched = (run(tree, tmp_path / tree.name) for tree in trees)
    assert plain.returncode == patched.returncode == 0, plain.stderr + patched.stderr
    assert plain.stdout == patched.stdout
    explin = run(trees[1], tmp_path / "explin", "--sigma_param", "explin")
    assert explin.returncode == 0 and explin.stdout != plain.stdout


def test_a_flag_that_is_not_known_stops_with_what_is_allowed(trees, tmp_path):
    done = run(trees[1], tmp_path / "typo", "--sigma_param", "explim")
    assert done.returncode == 2 and "explin" in done.stderr


@pytest.mark.parametrize("flags, posterior, prior", [
    (["--sigma_param", "explin"], "explin", "explin"),
    (["--sigma_param", "upbounded1", "--prior_const1"], "upbounded1", None),
    (["--posterior_sigma_param", "explin", "--prior_sigma_param", "exp"], "explin", "exp"),
])  # fmt: skip
def test_with_flags_a_block_computes_what_the_library_does(trees, flags, posterior, prior):
    program = (
        "import json, sys, torch; from hps import settings; from model import Latent\n"
        "torch.manual_seed(0); block = Latent(settings(sys.argv[1:])); x, acts = torch.randn(2, 2, 4, 4, 4)\n"
        "outs = [block.enc(torch.cat((acts, x), 1)), block.prior(x)]; torch.manual_seed(1)\n"
        "state, kl = block.sample(x, acts); torch.manual_seed(1); free = block.sample_free(x, 0.5)\n"
        "torch.save([*outs, block.out.weight, block.out.bias, x, state, kl, free], 'out.pt')"
    )
    subprocess.run([sys.executable, "-c", program, *flags], cwd=trees[1], check=True)
    enc, feats, weight, bias, x, state, kl, free = torch.load(trees[1] / "out.pt", weights_only=True)
    q = parse_parameterization(posterior).normal(*enc.chunk(2, 1))
    p = (parse_parameterization(prior) if prior else Constant()).normal(feats[:, :2], feats[:, 2:4])
    torch.testing.assert_close(kl, q.kl(p))

    def out(z):
        return x + feats[:, 4:] + torch.nn.functional.conv2d(z, weight, bias)

    torch.manual_seed(1)
    torch.testing.assert_close(state, out(q.rsample()))
    torch.manual_seed(1)
    torch.testing.assert_close(free, out(p.tempered(0.5).rsample()))


def test_events_and_counts_of_a_patched_run_are_read(trees, tmp_path):
    done = run(trees[1], tmp_path / "run", "--skip_threshold", "1e9", data="nan")
    assert done.returncode == 0, done.stderr
    log = read_run(tmp_path / "run")
    assert log.parameterization == "vanilla" and log.skipped_updates == log.nan_updates == 1
    (steps, reasons) = ({event["step"] for event in log.events}, {event["reason"] for event in log.events})
    assert steps == {3} and reasons == {"rate_nan", "distortion_nan"}
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["total_nan_updates"] for line in lines if line["type"] == "train_loss"] == [0, 1, 1]
