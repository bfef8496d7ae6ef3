"""What the report's figures draw: curves, axis, lines and colours, the skip map's counts, the sheets' rows."""

import json
import math
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import read_run
from vdvae.tools.report.figure2 import (
    Curve, axis_limits, beyond, draw_figure2, line_styles, nelbo_curve, skipped_curve, within,
)
from vdvae.tools.report.figure3 import Sheet, draw_figure3, row_labels
from vdvae.tools.report.rate_figure import draw_rates
from vdvae.tools.report.skip_map import BINS, draw_skip_map, skip_map
from vdvae.tools.report.verdict_figure import draw_verdict, skipped_steps
from vdvae.training.sample_sheet import sheet_rows

LN2 = math.log(2)


@pytest.fixture
def make_run(tmp_path):
    """A run from `(step, finite loss, skipped so far)` and `(step, origin, block[, reason])`, read back from its log."""
    def make(name, lines=(), events=(), rates=(), **hparams):
        folder = tmp_path / name
        folder.mkdir()
        records = [{"type": "hparam", "key": key, "value": value}
                   for key, value in ({"sigma_param": "explin", "seed": 0} | hparams).items()]
        for step, loss, skipped in lines:
            totals = dict.fromkeys(TOTAL_KEYS.values(), 0) | {"total_skipped_updates": skipped}
            totals |= {"distortion_nans": 0, "rate_nans": 0, "skipped_updates": 0}
            losses = {"elbo": math.nan, "elbo_filtered": loss, "grad_norm": 1.0}
            records.append({"type": "train_loss", "step": step, **losses, **totals})
        records += [{"type": kind, "elbo": 1.0, "rate_per_block": values} for kind, values in rates]
        (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        events = [{"step": step, "reason": (*reason, "high_grad")[0], "origin": origin, "block": block,
                   "resolution": None if block is None else 4, "skipped": True} for step, origin, block, *reason in events]
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return read_run(folder)
    return make


def test_curves_of_a_run(make_run):
    run = make_run("a", [(0, 3 * LN2, 0), (10, math.nan, 4), (20, 2 * LN2, 5)])
    steps, bits = nelbo_curve(run)
    assert steps == [0, 10, 20] and bits[::2] == [3.0, 2.0] and math.isnan(bits[1])
    assert skipped_curve(run) == ([0, 10, 20], [0, 4, 5])


def test_skipped_updates_come_from_events_where_the_log_has_no_lines(make_run):
    run = make_run("a", events=[(7, "decoder", 0), (3, "encoder", None), (7, "decoder", 1)])
    assert skipped_curve(run) == ([3, 7], [1, 2])


def test_blown_up_losses_do_not_flatten_the_axis():
    curve = Curve(list(range(12)), [9.0, 6.0, 5.9, 5.8, 1e30, 5.7, 5.6, math.nan, 5.5, 5.4, 5.3, math.inf])
    low, high = axis_limits([curve])
    assert 5.0 < low < 5.3 and 6.0 < high < 9.0
    assert beyond(curve, high) == [0, 4, 7, 11]
    assert [step for step, value in zip(*within(curve, high)) if math.isnan(value)] == [0, 4, 7, 11]


def test_axis_of_losses_without_outliers_shows_all_and_none_without_losses():
    low, high = axis_limits([Curve([0, 1], [4.0, 3.0]), Curve([0], [5.0])])
    assert low < 3.0 and 5.0 < high < 5.5
    assert axis_limits([Curve([0], [math.nan])]) is None and axis_limits([]) is None
    low, high = axis_limits([Curve([0], [2.0])])
    assert low < 2.0 < high


def test_the_axis_of_a_flat_run_is_no_magnifying_glass():
    low, high = axis_limits([Curve(list(range(12)), [9.0, 2.2, *[2.0] * 10])])
    assert 2.1 < high < 2.3 and 1.9 < low < 2.0


def test_figure2_has_a_line_a_run_and_a_colour_a_parameterization(make_run):
    runs = [make_run("a", [(0, 3.0, 0), (9, 2.0, 3)]), make_run("b", [(0, 3.0, 0), (9, 2.5, 8)], seed=1),
            make_run("c", [(0, 3.0, 0), (9, 2.0, 0)], sigma_param="vanilla")]
    figure = draw_figure2(runs, ["vanilla", "explin"])
    loss, skipped = figure.axes
    assert "bits per dimension" in loss.get_ylabel() and "step" in loss.get_xlabel() and "step" in skipped.get_xlabel()
    lines = [line for line in skipped.lines if len(line.get_xdata())]
    assert [list(line.get_ydata()) for line in lines] == [[0, 3], [0, 8], [0, 0]]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["vanilla (1 run)", "explin (2 runs)"]
    assert [line.get_color() for line in legend.get_lines()] == [lines[2].get_color(), lines[0].get_color()]


def test_figure2_marks_what_is_above_the_axis(make_run):
    lines = [(step, 4.0 - step / 100, 0) for step in range(20)] + [(20, 1e30, 0), (21, math.nan, 0)]
    loss = draw_figure2([make_run("a", lines)], ["explin"]).axes[0]
    [marks] = [line for line in loss.lines if line.get_marker() == "^"]
    assert list(marks.get_xdata()) == [20, 21] and loss.get_ylim()[1] < 10


def test_figure2_counts_thousands_on_a_logarithmic_axis(make_run):
    run = make_run("a", [(0, 3.0, 0), (9, 2.0, 2645)])
    assert draw_figure2([run], ["explin"]).axes[1].get_yscale() == "symlog"
    assert draw_figure2([make_run("b", [(9, 2.0, 30)])], ["explin"]).axes[1].get_yscale() == "linear"


def test_the_verdicts_picture_has_the_losses_and_a_row_of_marks_for_each_run(make_run):
    explin = make_run("a", [(0, 3.0, 0), (9, 2.0, 1)], [(4, "decoder", 0)])
    events = [(3, "decoder", 0), (3, "decoder", 1, "rate_nan"), (7, "encoder", None)]
    vanilla = make_run("b", [(0, 3.0, 0), (9, 2.5, 2)], events, sigma_param="vanilla")
    assert skipped_steps(vanilla) == {3: True, 7: False} and skipped_steps(explin) == {4: False}
    loss, marks = draw_verdict([explin, vanilla], ["vanilla", "explin"]).axes
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [[3.0 / LN2, 2.5 / LN2], [3.0 / LN2, 2.0 / LN2]]
    assert [tick.get_text() for tick in marks.get_yticklabels()] == ["vanilla, seed 0: 2 skipped", "explin, seed 0: 1 skipped"]
    drawn = [[segment[0][0] for segment in lines.get_segments()] for lines in marks.collections]
    assert drawn == [[7], [3], [4], []]  # high gradients, then NaN, of vanilla and of explin


def test_without_events_log_lines_mark_the_skips(make_run):
    assert skipped_steps(make_run("a", [(0, 3.0, 0), (9, 2.0, 3), (19, 2.0, 3)])) == {9: False}


def test_many_parameterizations_still_differ():
    styles = line_styles([f"softplus{n}" for n in range(20)])
    assert len({tuple(style.values()) for style in styles.values()}) == 20


def test_skip_map_counts_by_block_and_time(make_run):
    events = [(0, "decoder", 2), (0, "decoder", 2), (99, "decoder", 0), (50, "likelihood", None), (50, "encoder", None),
              (50, "unknown", None), (51, "elsewhere", None)]
    one = skip_map([make_run("a", events=events, dec_blocks="1x1,4m1,4x1,8x1")], last_step=99)
    blocks = ["block 0 (4²)", "block 1 (4²)", "block 2 (4²)", "block 3 (8²)"]
    assert one.rows == ["encoder", *blocks, "likelihood", "unknown"]
    assert [sum(row) for row in one.counts] == [1, 1, 0, 2, 0, 1, 2] and one.total == 7
    assert one.counts[3][0] == 2 and one.counts[1][BINS - 1] == 1 and one.counts[0][20] == 1
    assert one.edges[0] == 0 and one.edges[-1] == 100 and one.edges[20] == 50


def test_skip_map_adds_up_runs_and_those_without_events_are_unknown(make_run):
    runs = [make_run("a", events=[(1, "decoder", 0)]), make_run("b", [(5, 2.0, 3), (9, 2.0, 4)])]
    one = skip_map(runs, last_step=9)
    assert one.rows == ["encoder", "block 0 (4²)", "likelihood", "unknown"]
    assert [sum(row) for row in one.counts] == [0, 1, 0, 4] and one.counts[3][20] == 3 and one.counts[3][36] == 1


def test_skip_figure_has_a_panel_for_each_parameterization_with_events(make_run):
    runs = {"vanilla": make_run("a", events=[(1, "decoder", 0)] * 3), "explin": make_run("b")}
    maps = {label: skip_map([run], 9) for label, run in runs.items()}
    figure = draw_skip_map(maps)
    assert [axes.get_title("left") for axes in figure.axes if axes.get_title("left")] == ["vanilla: 3 events"]
    assert "no events: explin" in figure.get_suptitle()
    assert "no events: explin" in draw_skip_map({"explin": maps["explin"]}).get_suptitle()


@pytest.mark.parametrize("partial, free", [(6, 3), (0, 4), (2, 0), (5, 1)])
def test_row_labels_are_those_of_the_sheets(make_run, partial, free):
    blocks, kept, temperatures = 12, [], []

    def sample(count, temperature, latents=None):
        temperatures.append(temperature)
        kept.append(None if latents is None else len(latents))
        return torch.zeros(count, 2, 2, 3)

    vae = SimpleNamespace(encode=lambda _: [SimpleNamespace(z=0)] * blocks, sample=sample)
    settings = {"num_variables_visualize": partial, "num_temperatures_visualize": free}
    images, hparams = torch.zeros(1, 2, 2, 3), SimpleNamespace(**settings)
    rows = sheet_rows(vae, images, lambda pixels: SimpleNamespace(input=pixels), hparams)
    drawn = ["originals"] + [f"reconstructions, {count} of 12 latents" for count in kept if count is not None]
    drawn += [f"samples, temperature {t}" for t, count in zip(temperatures, kept) if count is None]
    assert row_labels(make_run("a", dec_blocks="1x2,4m1,4x9", **settings)) == drawn and len(drawn) == len(rows)


@pytest.mark.parametrize("missing", ["dec_blocks", "num_variables_visualize", "num_temperatures_visualize"])
def test_no_row_labels_without_the_settings(make_run, missing):
    settings = {"dec_blocks": "1x2", "num_variables_visualize": 1, "num_temperatures_visualize": 1}
    assert row_labels(make_run("a", **settings)) and not row_labels(make_run("b", **settings | {missing: None}))


def test_figure3_labels_rows_once_a_line_and_where_they_differ(tmp_path):
    png = imageio.imwrite("<bytes>", torch.zeros(8, 4, 3, dtype=torch.uint8).numpy(), extension=".png")
    sheets = {name: Sheet("samples-0.png", png, 4, 8, rows) for name, rows in
              {"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "z"], "d": ["x", "y"]}.items()}
    figure = draw_figure3(sheets)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "d", "", ""]
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes[:4]]
    assert labels == [["x", "y"], [], ["x", "z"], ["x", "y"]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_figure3_shows_grey_sheets_in_grey_over_the_whole_range(dtype):
    ramp = np.array([[64, 128]], dtype) * (257 if dtype == "uint16" else 1)
    png = imageio.imwrite("<bytes>", ramp.astype(dtype), extension=".png")
    [axes] = draw_figure3({"a": Sheet("samples-0.png", png, 2, 1, [])}).axes
    [image] = axes.images
    assert image.to_rgba(image.get_array(), bytes=True)[0].tolist() == [[64, 64, 64, 255], [128, 128, 128, 255]]


def test_rates_are_bars_block_by_block_the_mean_over_seeds(make_run):
    def run(name, rates, **hparams):
        lines = [("test_loss", rates), ("eval_loss", [99.0, 99.0, 99.0])]
        return make_run(name, [(0, 1.0, 0)], rates=lines, dec_blocks="1x1,4m1,4x1", **hparams)

    runs = [run("a", [LN2, 2 * LN2, 0.0]), run("b", [3 * LN2, 2 * LN2, 0.0]), run("c", [math.inf, 0.0, 0.0]),
            run("d", [0.0, 0.0, LN2], sigma_param="exp"), make_run("old", [(0, 1.0, 0)], sigma_param="vanilla")]
    figure = draw_rates(runs, ["vanilla", "exp", "explin"])
    panels = {axes.get_title(loc="left"): [bar.get_height() for bar in axes.patches] for axes in figure.axes}
    assert panels["exp (1 run)"] == pytest.approx([0, 0, 1])
    assert panels["explin (2 runs, 1 with a rate that is not finite left out)"] == pytest.approx([2, 2, 0])
    assert len(panels) == 2
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1x1", "4x4"]
    assert draw_rates(runs[-1:], ["vanilla"]) is None
