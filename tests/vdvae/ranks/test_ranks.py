"""Several ranks compute what one does, and agree on what to skip."""

import os
import re
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.vdvae.ranks.three_updates import GRAPHED, SCENARIOS
from vdvae.ranks.distributed import ENV_VARIABLES
from vdvae.train import main

PROGRAM = Path(__file__).parent / "three_updates.py"
DEVICES = Path(__file__).parent / "picked_devices.py"


def loaded(folder: Path, scenario: str) -> list[dict]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob(f"{scenario}-*.pt"))]


def started(result, folder: Path) -> Path:
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def alone(run_python, tmp_path_factory) -> Path:
    """What one rank computes."""
    folder = tmp_path_factory.mktemp("alone")
    return started(run_python(PROGRAM, folder, "plain", "penalized"), folder)


@pytest.fixture(scope="module")
def two_ranks(run_mpi, tmp_path_factory) -> Path:
    """What two ranks under mpiexec compute."""
    folder = tmp_path_factory.mktemp("two_ranks")
    return started(run_mpi(2, PROGRAM, folder, *SCENARIOS), folder)


def assert_same_training(alone: dict, ranks: list[dict]) -> None:
    """Weights after each update agree to float32 rounding; float32 sums over 4 images in another order cost some ULP.

    AdamW divides by the gradient's own size, so a rounding difference of relative size r in a gradient moves a weight by
    about lr * r; where a gradient is itself rounding noise (say 1e-8) it can move it by up to lr. The bound is on the
    mean move: 1e-3 of an update's mean move.
    """
    assert len(ranks) > 1 and ranks[0]["gradients_in_buckets"]
    assert torch.equal(ranks[0]["weights"][0], alone["weights"][0])
    for step in (1, 2, 3):
        moved = (alone["weights"][step] - alone["weights"][step - 1]).abs().mean()
        difference = (ranks[0]["weights"][step] - alone["weights"][step]).abs().mean()
        assert difference < 1e-3 * moved
        for rank in ranks[1:]:
            assert torch.equal(ranks[0]["weights"][step], rank["weights"][step])
            assert torch.equal(ranks[0]["averages"][step], rank["averages"][step])
    for mine, all_ranks in zip(alone["reports"], ranks[0]["reports"], strict=True):
        means = [statistics.mean(losses["elbo"] for losses in report["losses"]) for report in (mine, all_ranks)]
        assert means[1] == pytest.approx(means[0], rel=1e-5)
        assert all_ranks["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("scenario, reference", [("plain", "plain"), ("in_parts", "plain"), ("checkpointed", "plain"),
                                                 ("penalized", "penalized")])
def test_two_ranks_under_mpiexec_train_as_one(alone, two_ranks, scenario, reference):
    assert_same_training(loaded(alone, reference)[0], loaded(two_ranks, scenario))


def test_two_ranks_under_torchrun_train_as_one(alone, run_torchrun, tmp_path):
    folder = started(run_torchrun(2, PROGRAM, tmp_path, "plain"), tmp_path)
    assert_same_training(loaded(alone, "plain")[0], loaded(folder, "plain"))


def test_compressed_gradients_are_the_same_on_all_ranks_and_near_the_whole_ones(alone, two_ranks):
    ranks, reports = loaded(two_ranks, "compressed"), loaded(alone, "plain")[0]["reports"]
    assert torch.equal(ranks[0]["weights"][3], ranks[1]["weights"][3])
    for mine, both in zip(reports, ranks[0]["reports"], strict=True):
        assert both["grad_norm"] == pytest.approx(mine["grad_norm"], rel=2**-7)  # eight bits, rounded before and after the sum
    assert ranks[0]["reports"][0]["grad_norm"] != pytest.approx(reports[0]["grad_norm"], rel=1e-5)


def test_mpiexec_without_a_count_starts_one_rank(alone, run_mpi, tmp_path):
    (rank,) = loaded(started(run_mpi(None, PROGRAM, tmp_path, "plain"), tmp_path), "plain")
    assert torch.equal(rank["weights"][3], loaded(alone, "plain")[0]["weights"][3])


def test_nan_on_one_rank_skips_the_update_on_all(two_ranks):
    ranks = loaded(two_ranks, "nan_on_rank_1")
    for rank in ranks:
        assert torch.equal(rank["weights"][2], rank["weights"][1])  # the update with the NaN changed nothing
        assert torch.equal(rank["averages"][2], rank["averages"][1])
        assert not torch.equal(rank["weights"][3], rank["weights"][2])  # the one after it trains on
        assert rank["weights"][3].isfinite().all()
        assert [report["reasons"] for report in rank["reports"]] == [{}, {"rate_nan": [1], "distortion_nan": [1]}, {}]
    for step in range(4):
        assert torch.equal(ranks[0]["weights"][step], ranks[1]["weights"][step])
        assert torch.equal(ranks[0]["averages"][step], ranks[1]["averages"][step])


def said_by(done) -> list[str]:
    """What picked_devices.py printed, sorted; Gloo prints too in PyTorch 2.8, at the same time."""
    return sorted(re.findall("(?:none|cuda): (?:rank|--device).*", done.stdout))


def assert_same_bits(scenario: str, reference: str, folder: Path) -> None:
    """The same weights, averages and reports after every update on all ranks, and gradients that lie as their weights do."""
    first = loaded(folder, reference)[0]
    for rank in loaded(folder, scenario):
        assert rank["gradients_in_buckets"] and repr(rank["reports"]) == repr(first["reports"])
        for what in ("weights", "averages"):
            assert all(map(torch.equal, rank[what], first[what])), what


@pytest.mark.parametrize("scenario", GRAPHED)
def test_two_ranks_with_graphs_compute_the_bits_of_two_ranks_without(two_ranks, scenario):
    """A sum of two numbers has one order. Skips, their reasons and the request to stop are part of the reports."""
    assert_same_bits(f"graphed_{scenario}", scenario, two_ranks)
    stops = [report["stop"] for report in loaded(two_ranks, f"graphed_{scenario}")[0]["reports"]]
    assert stops == [False, True, False]


def test_ranks_with_graphs_go_on_to_the_bit(two_ranks, run_mpi, tmp_path):
    """On three ranks sums depend on their order, so the update without graphs agrees to rounding only."""
    three_ranks = started(run_mpi(3, PROGRAM, tmp_path, "plain", "graphed_plain", "graphed_resumed"), tmp_path)
    for folder in (two_ranks, three_ranks):
        assert_same_bits("graphed_resumed", "graphed_plain", folder)
    assert_same_training(loaded(three_ranks, "plain")[0], loaded(three_ranks, "graphed_plain"))


@pytest.mark.parametrize("launcher, wanted", [("run_mpi", ["none", "cuda"]), ("run_torchrun", ["none"])])
def test_two_ranks_with_one_gpu_all_run_on_the_cpu_or_refuse_together(request, launcher, wanted):
    done = request.getfixturevalue(launcher)(2, DEVICES, *wanted)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    refused = ("cuda: --device cuda: a node's ranks exceed the GPUs that PyTorch sees there by 1; start at most one rank a GPU, "
               "or use --device cpu")
    expected = {"none": ["none: rank 0 on cpu", "none: rank 1 on cpu"], "cuda": [refused, refused]}
    assert said_by(done) == sorted(line for name in wanted for line in expected[name])
    assert done.stderr.count("so all ranks run on the CPU") == wanted.count("none")


@pytest.mark.parametrize("launcher", ["run_mpi", "run_torchrun"])
def test_two_ranks_that_see_one_gpu_each_take_it_if_the_gpus_differ(request, monkeypatch, launcher):
    monkeypatch.setenv("apart", "yes")
    done = request.getfixturevalue(launcher)(2, DEVICES, "none")
    assert said_by(done) == ["none: rank 0 on cuda:0", "none: rank 1 on cuda:0"], done.stderr


def test_one_rank_takes_the_gpu(run_python):
    assert run_python(DEVICES, "none", "cuda", "cpu").stdout.splitlines() == [
        "none: rank 0 on cuda:0", "cuda: rank 0 on cuda:0", "cpu: rank 0 on cpu"]


WHO = """
import torch
from vdvae.ranks.distributed import join_world
with join_world("cpu") as world:
    print(world.rank, world.size, world.local_rank, world.local_size, world.sum(torch.ones(1)).item())
"""


def test_ranks_of_the_environment_variables_meet_without_torchrun(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    base = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [subprocess.Popen([sys.executable, "-c", WHO], env=base | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
             for rank in (0, 1)]
    assert [rank.communicate()[0].split()[-5:] for rank in ranks] == [["0", "2", "0", "2", "2.0"], ["1", "2", "1", "2", "2.0"]]


@pytest.mark.parametrize("given, missing", [({"RANK": "1"}, "WORLD_SIZE and MASTER_ADDR and MASTER_PORT must be set"),
                                            ({"WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK must be set")])
def test_half_of_the_environment_variables_is_an_error(monkeypatch, capsys, given, missing):
    for name in ENV_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train.py", "--hps", "photos32"])
    assert main() == 2
    assert missing in capsys.readouterr().err


def test_a_port_in_use_is_an_error_on_all_ranks(run_mpi):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_mpi(2, "train.py", "--hps", "photos32", "--device", "cpu", "--port", port)
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: --port {port} is in use or not allowed: give another one, or leave --port out for a free one"]
