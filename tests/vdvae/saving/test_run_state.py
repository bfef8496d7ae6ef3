"""States whose checksums are right and whose content is not: the state before is taken, or the run is refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from tests.vdvae.runs import FLAGS, assert_same, train
from tests.vdvae.saving.test_checkpoint import Code
from vdvae.ranks.distributed import StartError, World
from vdvae.ranks.randomness import noise_state, restore_noise
from vdvae.saving.run_state import MANIFEST, _fingerprint, load_state_folder, saved_states
from vdvae.saving.training_state import new_state
from vdvae.settings.hparams import load_hparams
from vdvae.training.run import run as run_of

MISSING = object()


@pytest.fixture()
def copied(undisturbed, tmp_path) -> Path:
    """A run with its last two states, of steps 10 and 12, not finished."""
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run/finished.json").unlink()
    return tmp_path / "run"


def put(tree, place: str, value) -> None:
    """Set, or remove, what is at a place such as counters.high_grads."""
    *path, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    for part in path:
        tree = tree[part]
    if value is MISSING:
        del tree[last]
    else:
        tree[last] = value


def spoil(state: Path, name: str, place: str, value) -> None:
    """Put a value into a file of a state, under a checksum that is right."""
    path = state / name
    content = json.loads(path.read_text()) if name == "position.json" else torch.load(path, weights_only=True)
    put(content, place, value(content) if callable(value) else value)
    path.write_text(json.dumps(content)) if name == "position.json" else torch.save(content, path)
    sign(state)


def sign(state: Path) -> None:
    (state / MANIFEST).write_text(json.dumps({name: _fingerprint(state / name) for name in ("tensors.pt", "position.json")}))


def restored_step(folder: Path) -> tuple[int, list[str]]:
    state = new_state(load_hparams(FLAGS), World())
    _, position, _, messages = load_state_folder(folder, state.restore)
    assert state.iteration == position.iteration
    assert all(weight.isfinite().all() for weight in state.vae.parameters())
    return position.iteration, messages


REPORT = {"iteration": 1, "epoch": 0, "lr": 0.1, "losses": [{"elbo": 1.0, "rate": 1.0, "distortion": 1.0}], "grad_norm": 1.0, "reasons": {},
          "stop": False, "spectral_norms": None}


@pytest.mark.parametrize("place, value", [
    ("iteration", 10**12), ("iteration", math.nan), ("iteration", -12), ("iteration", 11), ("iteration", 12.0), ("iteration", True),
    ("iteration", None), ("iteration", MISSING), ("surprise", 1), ("epoch", -1), ("epoch", 13), ("step_in_epoch", 10**12), ("ranks", "1"),
    ("consecutive_skips", -1), ("first_iteration", 99), ("seconds", math.nan), ("seconds", -1.0), ("seconds", None),
    ("counters", None), ("counters", []), ("counters/high_grads", 13), ("counters/high_grads", MISSING), ("counters/skipped_updates", -1),
    ("counters/surprise", 1), ("window", None), ("window/reports", {}), ("window/reports", [REPORT | {"losses": []}]),
    ("window/reports", [REPORT | {"losses": [{"rate": 1.0}]}]), ("window/reports", [REPORT | {"surprise": 1}]), ("window/seconds", ["1"]),
    ("log_sizes/log.jsonl", -1), ("log_sizes", None), ("images", {"train": []}), ("hparams", None), ("hparams/lr", None),
    ("hparams/n_batch", "four"), ("hparams/surprise", 1), ("hparams/dec_blocks", "32x"),
])
def test_a_position_with_a_wrong_field_is_passed_over(copied, place, value):
    spoil(saved_states(copied)[0], "position.json", place, value)
    step, [message] = restored_step(copied)
    assert step == 10 and "step-0000000012/position.json is damaged: " in message and "\n" not in message
    assert place.split("/")[-1] in message


def test_a_run_that_is_older_than_a_setting_goes_on_with_the_settings_default(copied, capsys):
    spoil(saved_states(copied)[0], "position.json", "hparams/exact_levels", MISSING)
    train(copied.parent, "--resume", "--num_iters", 13)
    assert "resumed at step 12" in capsys.readouterr().out


@pytest.mark.parametrize("place, value", [
    ("model", MISSING), ("model", None), ("average", MISSING), ("optimizer", None), ("optimizer/state", MISSING), ("optimizer/state", {}),
    ("optimizer/state/0", MISSING), ("optimizer/state/3/exp_avg_sq", MISSING), ("optimizer/state/0/exp_avg_sq", torch.zeros(())),
    ("optimizer/state/0/step", torch.tensor(math.nan)), ("optimizer/param_groups", []), ("surprise", torch.zeros(1)),
    ("model/decoder.bias_xs.0", MISSING), ("average/decoder.bias_xs.0", torch.zeros(3)), ("model/decoder.bias_xs.0", "text"),
    ("model/decoder.bias_xs.0", lambda content: content["model"]["decoder.bias_xs.0"] * math.nan),
    ("average/decoder.bias_xs.0", lambda content: content["model"]["decoder.bias_xs.0"] + math.inf),
    ("model/decoder.bias_xs.0", torch.zeros(2).to_sparse()), ("model/surprise", 1),
    ("noise", []), ("noise", None), ("noise", MISSING), ("noise/0", []), ("noise/0/0", torch.zeros(0, dtype=torch.uint8)),
    ("noise/0/0", torch.zeros(5056)), ("noise/0/0", torch.zeros(5056, dtype=torch.uint8)),
])
def test_tensors_that_are_not_the_models_are_passed_over(copied, place, value):
    spoil(saved_states(copied)[0], "tensors.pt", place, value)
    step, [message] = restored_step(copied)
    assert step == 10 and "step-0000000012/tensors.pt: " in message and "\n" not in message
    assert place.split("/")[0] in message or place.endswith("surprise") and "surprise" in message


@pytest.mark.parametrize("name, content", [
    ("position.json", b"[]"), ("position.json", b"null"), ("position.json", b"[" * 100_000), ("position.json", b"\xff"), ("tensors.pt", b""),
    ("manifest.json", b"[]"), ("manifest.json", b"null"), ("manifest.json", b"[" * 100_000)])
def test_files_of_another_kind_are_passed_over(copied, name, content):
    newest = saved_states(copied)[0]
    (newest / name).write_bytes(content)
    if name != "manifest.json":
        sign(newest)
    step, [message] = restored_step(copied)
    assert step == 10 and "step-0000000012" in message


def test_two_wrong_states_are_refused_in_one_line_and_code_in_them_does_not_run(copied, tmp_path):
    newest, older = saved_states(copied)
    torch.save({"model": Code(tmp_path / "ran")}, newest / "tensors.pt")
    sign(newest)
    spoil(older, "position.json", "epoch", None)
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(StartError, match="step-0000000012/tensors.pt.*; .*step-0000000010/position.json is damaged: epoch is None") as end:
        train(tmp_path, "--resume")
    assert "\n" not in str(end.value) and not (tmp_path / "ran").exists()
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_ranks_that_find_different_states_do_not_begin(copied):
    class OneOfTwo(World):
        def gather_objects(self, item):
            return [item, 10] if item == 12 else [item]

    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    flags = [*FLAGS, "--save_dir", str(copied.parent), "--desc", "run", "--resume", "must"]
    with pytest.raises(StartError, match="the ranks do not find the same states"):
        run_of(load_hparams(flags), OneOfTwo())
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


GPU_NOISE = torch.zeros(16, dtype=torch.uint8)  # of the size that a GPU's generator has


def test_a_run_that_a_gpu_saved_goes_on_on_the_cpu_and_the_log_says_that_its_noise_is_new(copied, tmp_path, capsys):
    newest, older = saved_states(copied)
    shutil.rmtree(newest)
    spoil(older, "tensors.pt", "noise/0", lambda content: [*content["noise"][0], GPU_NOISE])
    again = shutil.copytree(copied, tmp_path / "again/run")
    assert_same(train(tmp_path, "--resume"), train(again.parent, "--resume"))
    assert capsys.readouterr().out.count("the run was not saved on cpu: its noise begins anew, from seed 0 and step 10") == 2
    assert json.loads((copied / "finished.json").read_text())["iteration"] == 12


def test_noise_is_restored_on_the_same_kind_of_device_and_begins_anew_on_another():
    def drawn(states: list, seed: int, step: int, world: World) -> tuple[bool, list[float]]:
        torch.manual_seed(9)
        return restore_noise(states, seed, step, world), torch.randn(3).tolist()

    gpu = World(device=torch.device("cuda"))
    mine = noise_state(World())
    expected = torch.randn(3).tolist()
    assert drawn(mine, 0, 5, World()) == (True, expected)
    onto_gpu, onto_cpu = drawn(mine, 0, 5, gpu), drawn([*mine, GPU_NOISE], 0, 5, World())
    others = [drawn(mine, 1, 5, gpu), drawn(mine, 0, 6, gpu), drawn(mine, 0, 5, World(1, 2, device=torch.device("cuda")))]
    assert onto_gpu == onto_cpu and not onto_gpu[0]
    assert len({str(draw) for restored, draw in [(True, expected), onto_gpu, *others]}) == 5
