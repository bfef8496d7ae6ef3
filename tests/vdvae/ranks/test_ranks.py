"""Several ranks compute what one does, and agree on what to skip."""

from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parent / "three_updates.py"


def load(folder: Path) -> list[dict]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank-*.pt"))]


def started(result, folder: Path) -> list[dict]:
    assert result.returncode == 0, result.stderr
    return load(folder)


@pytest.fixture(scope="module")
def alone(run_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return started(run_python(PROGRAM, folder), folder)[0]


def assert_same_training(alone: dict, ranks: list[dict]) -> None:
    """Weights after each update agree to float32 rounding; float32 sums over 4 images in another order cost some ULP.

    AdamW divides by the gradient's own size, so a rounding difference of relative size r in a gradient moves a weight by
    about lr * r; where a gradient is itself rounding noise (say 1e-8) it can move it by up to lr. The bound is on the
    mean move: 1e-3 of an update's mean move.
    """
    assert len(ranks) == 2 and ranks[0]["gradients_in_buckets"]
    assert torch.equal(ranks[0]["weights"][0], alone["weights"][0])
    for step in (1, 2, 3):
        moved = (alone["weights"][step] - alone["weights"][step - 1]).abs().mean()
        difference = (ranks[0]["weights"][step] - alone["weights"][step]).abs().mean()
        assert difference < 1e-3 * moved
        assert torch.equal(ranks[0]["weights"][step], ranks[1]["weights"][step])
        assert torch.equal(ranks[0]["averages"][step], ranks[1]["averages"][step])
    for mine, both in zip(alone["reports"], ranks[0]["reports"]):
        mean = sum(losses["elbo"] for losses in both["losses"]) / 2
        assert mean == pytest.approx(mine["losses"][0]["elbo"], rel=1e-5)
        assert both["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-4)


def test_two_ranks_under_mpiexec_train_as_one(alone, run_mpi, tmp_path):
    assert_same_training(alone, started(run_mpi(2, PROGRAM, tmp_path), tmp_path))


def test_two_ranks_under_torchrun_train_as_one(alone, run_torchrun, tmp_path):
    assert_same_training(alone, started(run_torchrun(2, PROGRAM, tmp_path), tmp_path))


@pytest.mark.parametrize("flags", [("--n_batch", 2, "--accumulate_steps", 2), ("--checkpoint_blocks",)], ids=lambda flags: flags[-2] if len(flags) > 1 else flags[0])
def test_less_memory_trains_the_same(alone, run_mpi, tmp_path, flags):
    assert_same_training(alone, started(run_mpi(2, PROGRAM, tmp_path, *flags), tmp_path))


def test_compressed_gradients_are_the_same_on_all_ranks_and_near_the_whole_ones(alone, run_mpi, tmp_path):
    ranks = started(run_mpi(2, PROGRAM, tmp_path, "--compress_gradients"), tmp_path)
    assert torch.equal(ranks[0]["weights"][3], ranks[1]["weights"][3])
    for mine, both in zip(alone["reports"], ranks[0]["reports"]):
        assert both["grad_norm"] == pytest.approx(mine["grad_norm"], rel=2**-7)  # eight bits, rounded before and after the sum
    assert ranks[0]["reports"][0]["grad_norm"] != pytest.approx(alone["reports"][0]["grad_norm"], rel=1e-5)


def test_mpiexec_without_a_count_starts_one_rank(alone, run_mpi, tmp_path):
    ranks = started(run_mpi(None, PROGRAM, tmp_path), tmp_path)
    assert len(ranks) == 1
    assert torch.equal(ranks[0]["weights"][3], alone["weights"][3])


def test_nan_on_one_rank_skips_the_update_on_all(run_mpi, tmp_path):
    ranks = started(run_mpi(2, PROGRAM, tmp_path, "nan_on=1"), tmp_path)
    for rank in ranks:
        assert torch.equal(rank["weights"][2], rank["weights"][1])  # the update with the NaN changed nothing
        assert torch.equal(rank["averages"][2], rank["averages"][1])
        assert not torch.equal(rank["weights"][3], rank["weights"][2])  # the one after it trains on
        assert rank["weights"][3].isfinite().all()
        assert [report["reasons"] for report in rank["reports"]] == [{}, {"rate_nan": [1], "distortion_nan": [1]}, {}]
    for step in range(4):
        assert torch.equal(ranks[0]["weights"][step], ranks[1]["weights"][step])
        assert torch.equal(ranks[0]["averages"][step], ranks[1]["averages"][step])
