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
TRAINING = """
import hashlib, json, os, sys
import torch
from hps import settings
from model import Model
from train import logger, train
torch.set_num_threads(1)
for folder, flags in json.loads(sys.argv[1]).items():
    os.mkdir(folder)
    H = settings(['--save_dir', folder, *flags])
    torch.manual_seed(0)
    model = Model(H)
    log = logger(H)
    for key in sorted(H):
        log(type='hparam', key=key, value=H[key])
    data = [torch.randn(2, 3, 4, 4) for _ in range(6)]
    data[3] = data[3] * (float('nan') if folder == 'nan' else 1)
    train(H, model, data, log)
    with torch.no_grad():
        weights = b''.join(p.numpy().tobytes() for p in [*model.parameters(), model.free(2, 0.7)])
    print(folder, hashlib.sha256(weights).hexdigest())
"""
FLAGS = {  # with the parameterizations of the posterior and of the prior
    ("--sigma_param", "explin"): ("explin", "explin"),
    ("--sigma_param", "upbounded1", "--prior_const1"): ("upbounded1", None),
    ("--posterior_sigma_param", "explin", "--prior_sigma_param", "exp"): ("explin", "exp"),
}
BLOCKS = """
import json, sys
import stable_params, torch
from hps import settings
from model import Latent
saved = []
for flags in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    block = Latent(settings(flags))
    x, acts = torch.randn(2, 2, 4, 4, 4)
    outputs = [block.enc(torch.cat((acts, x), 1)), block.prior(x)]
    torch.manual_seed(1)
    state, kl = block.sample(x, acts)
    torch.manual_seed(1)
    saved.append([*outputs, block.out.weight, block.out.bias, x, state, kl, block.sample_free(x, 0.5)])
torch.save(saved, 'blocks.pt')
print(stable_params.__file__)
settings(['--sigma_param', 'explim'])
"""


def run(program, tree, argument):
    """A program in a process of its own, outside the project's folder, so that it finds the copied stable_params."""
    command = [sys.executable, "-c", program, json.dumps(argument)]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True)


def train(tree, runs):
    """The digest of weights and samples after each run, by the folder of the run."""
    done = run(TRAINING, tree, runs)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    plain, patched = (tmp_path_factory.mktemp(name) for name in ("plain", "patched"))
    for name, text in FILES.items():
        (plain / name).write_text(text)
        (patched / name).write_text(text)
    command = [sys.executable, "-m", "patches", "--write", str(patched), "--vendor"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    return plain, patched


@pytest.fixture(scope="module")
def trained(trees):
    """The digests of the unpatched tree's runs and of the patched tree's."""
    plain, patched = trees
    runs = {"same": [], "explin": ["--sigma_param", "explin"], "nan": ["--skip_threshold", "1e9"]}
    return train(plain, {"same": []}), train(patched, runs)


@pytest.fixture(scope="module")
def blocks(trees):
    """The process that computed blocks with FLAGS and then read a wrong flag, and the tensors that it saved."""
    done = run(BLOCKS, trees[1], [list(flags) for flags in FLAGS])
    return done, dict(zip(FLAGS, torch.load(trees[1] / "blocks.pt", weights_only=True)))


def test_without_flags_the_weights_and_samples_after_training_are_those_of_the_unpatched_tree(trained):
    plain, patched = trained
    assert patched["same"] == plain["same"] != patched["explin"]


def test_events_and_counts_of_a_patched_run_are_read(trees, trained):
    log = read_run(trees[1] / "nan")
    assert log.parameterization == "vanilla" and log.counts["skipped_updates"] == log.counts["nan_updates"] == 1
    assert [(log.events["step"][n], log.events.value("reason", n)) for n in range(len(log.events))] == [(3, "rate_nan"), (3, "distortion_nan")]
    lines = [json.loads(line) for line in (trees[1] / "nan/log.jsonl").read_text().splitlines()]
    assert [line["total_nan_updates"] for line in lines if line["type"] == "train_loss"] == [0, 1, 1]


def test_the_copy_of_stable_params_is_used_and_an_unknown_flag_stops_with_what_is_allowed(trees, blocks):
    done, _ = blocks
    assert done.stdout.strip() == str(trees[1] / "stable_params/__init__.py")
    assert done.returncode == 2 and "'explim'" in done.stderr and "explin" in done.stderr


@pytest.mark.parametrize("flags", FLAGS)
def test_with_flags_a_block_computes_what_the_library_does(blocks, flags):
    enc, feats, weight, bias, x, state, kl, free = blocks[1][flags]
    posterior, prior = FLAGS[flags]
    q = parse_parameterization(posterior).normal(*enc.chunk(2, 1))
    p = (parse_parameterization(prior) if prior else Constant()).normal(feats[:, :2], feats[:, 2:4])
    torch.testing.assert_close(kl, q.kl(p))

    def out(z):
        return x + feats[:, 4:] + torch.nn.functional.conv2d(z, weight, bias)

    torch.manual_seed(1)
    torch.testing.assert_close(state, out(q.rsample()))
    torch.manual_seed(1)
    torch.testing.assert_close(free, out(p.tempered(0.5).rsample()))
