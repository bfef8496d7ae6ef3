"""What TensorBoard reads: the log's figures and the sample sheets, no step twice after a resume."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.vdvae.disks import small_disk
from tests.vdvae.runs import assert_same, crashing, train
from vdvae.ranks.distributed import StartError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's thread


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def scalars(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in events.Scalars(tag)]


def logged(folder, kind: str, key: str) -> list[tuple[int, float]]:
    lines = map(json.loads, (folder / "log.jsonl").open())
    return [(line["step"], line[key]) for line in lines if line.get("type") == kind]


@pytest.mark.parametrize("interrupted", [False, True])
def test_it_holds_the_logs_figures_each_step_once(tmp_path, monkeypatch, interrupted):
    flags = ["--tensorboard", "--test_at_end", "--iters_per_images", 6]
    if interrupted:
        with monkeypatch.context() as patch:
            crashing(patch, 9)  # steps 5 and 8 are logged, and taken again from the state at 5
            with pytest.raises(MemoryError):
                train(tmp_path, *flags)
    folder = train(tmp_path, *flags, "--resume", "auto")
    events = read(folder)
    for kind in ("train_loss", "eval_loss", "test_loss"):
        for key in ("elbo", "bits_per_dim", "rate"):
            values = scalars(events, f"{kind.removesuffix('_loss')}/{key}")
            assert len(values) > 0
            np.testing.assert_allclose(values, logged(folder, kind, key), rtol=1e-6)
    np.testing.assert_allclose(scalars(events, "train/lr"), logged(folder, "train_loss", "lr"), rtol=1e-6)
    (last,) = logged(folder, "test_loss", "rate_per_block")
    assert [scalars(events, f"test/rate_per_block/{n}")[0][1] for n in range(3)] == pytest.approx(last[1], rel=1e-6)
    assert [image.step for image in events.Images("samples")] == [0, 6, 12]
    drawn = imageio.imread(events.Images("samples")[-1].encoded_image_string)
    assert np.array_equal(drawn, imageio.imread(folder / "samples-12.png"))


def test_a_nan_is_a_nan(tmp_path):
    from vdvae.records.log import RunLogger
    from vdvae.records.tensorboard import TensorBoard

    log = RunLogger(tmp_path)
    log.board = TensorBoard(tmp_path, 0)
    log(type="train_loss", step=3, elbo=float("nan"), rate=float("inf"))
    ((step, value),) = scalars(read(tmp_path), "train/elbo")
    assert step == 3 and np.isnan(value) and scalars(read(tmp_path), "train/rate") == [(3, float("inf"))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_sheet_is_shown_in_its_upper_eight_bits(tmp_path, dtype):
    from vdvae.records.tensorboard import TensorBoard

    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    imageio.imwrite(tmp_path / "sheet.png", ramp.astype(dtype) << (8 if dtype == np.uint16 else 0))
    TensorBoard(tmp_path, 0).sheet(tmp_path / "sheet.png", 0)
    [image] = read(tmp_path).Images("samples")
    assert np.array_equal(imageio.imread(image.encoded_image_string), np.stack([ramp] * 3, axis=-1))


def test_without_the_package_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError, match="--tensorboard needs the package tensorboard"):
        train(tmp_path, "--tensorboard")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_reported_once_and_the_log_goes_on(tmp_path, capsys):
    from vdvae.records.log import RunLogger
    from vdvae.records.tensorboard import TensorBoard

    log = RunLogger(tmp_path, board=TensorBoard(tmp_path, 0))
    with small_disk():
        for step in range(8):
            log(type="train_loss", **{f"figure {n}": 1.0 for n in range(30)} | {"step": step} if step % 2 else {"step": step})
    log.sheet(tmp_path / "sheet.png", 9)
    assert capsys.readouterr().err.count("error: TensorBoard's files could not be written, the run continues without them: ") == 1


def test_a_folder_that_cannot_be_made_ends_no_run(undisturbed, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tensorboard").touch()
    assert_same(train(tmp_path, "--tensorboard"), undisturbed)
    assert capsys.readouterr().err.count("error: TensorBoard's files could not be written") == 1
