"""Reading logs: counts without double counting, labels and final losses."""

import math

import pytest

from tests.vdvae.records.log_lines import OWN_HPARAMS, event, high_grad_line, hparam_lines, loss_line, own, train_line
from vdvae.records.run_counts import event_counts
from vdvae.records.run_log import read_run
from vdvae.records.step_report import REASONS


def test_own_run_counts_distinct_updates(write_run):
    totals = {"skipped_updates": 3, "nan_updates": 2, "rate_nan": 2, "grad_nan": 1, "high_grad": 1}
    events = [event(5, "rate_nan", 0), event(5, "rate_nan", 1), event(5, "grad_nan"), event(7, "high_grad"),
              event(9, "rate_nan")]
    run = read_run(write_run(own({"time": "t", "message": "training"}, train_line(10, totals)), events))
    assert (run.counts["skipped_updates"], run.counts["nan_updates"], run.counts["high_grad"]) == (3, 2, 1)
    assert [run.counts[reason] for reason in REASONS] == [2, 0, 1, 1]
    assert (run.seed, run.last_step, run.parameterization, run.notes) == (3, 10, "explin", [])


def test_own_windows_add_up_to_the_last_total(write_run):
    lines = [high_grad_line(10, 1), high_grad_line(20, 1), high_grad_line(30, 4)]
    run = read_run(write_run(own(*lines), [event(step, "high_grad") for step in (3, 21, 22, 23)]))
    assert run.windows.counts["skipped_updates"].tolist() == [1, 0, 3]
    assert run.counts["skipped_updates"] == 4 and run.notes == []


def test_lines_of_an_abandoned_attempt_do_not_count(write_run):
    before = [high_grad_line(10, 1), high_grad_line(12, 5), high_grad_line(20, 7), high_grad_line(30, 9)]
    after = [high_grad_line(20, 2), high_grad_line(30, 3)]
    lines = own(*before) + hparam_lines({"sigma_param": "exp"}) + after
    run = read_run(write_run(lines, [event(step, "high_grad") for step in (1, 18, 28)]))
    assert run.windows.step.tolist() == [10, 12, 20, 30] and run.windows.counts["high_grad"].tolist() == [1, 1, 0, 1]
    assert run.counts["skipped_updates"] == 3
    assert run.hparams["sigma_param"] == "exp"
    assert len(run.notes) == 1 and "from an earlier point at step 20" in run.notes[0]


def test_an_update_made_twice_at_the_step_of_a_line_is_said(write_run):
    run = read_run(write_run(own(high_grad_line(10, 1), high_grad_line(10, 1)), [event(4, "high_grad")]))
    assert run.windows.step.tolist() == [10] and run.counts["skipped_updates"] == 1
    assert len(run.notes) == 1 and "from an earlier point at step 10" in run.notes[0]


def test_an_event_of_the_last_lines_own_update_is_within_its_totals(write_run):
    run = read_run(write_run(own(high_grad_line(10, 1)), [event(10, "high_grad")]))
    assert run.counts["high_grad"] == 1 and run.notes == []


def test_disagreement_between_totals_and_events_is_said(write_run):
    run = read_run(write_run(own(high_grad_line(10, 2)), [event(4, "high_grad")]))
    assert run.counts["high_grad"] == 2
    assert any("total_high_grads is 2 at step 10, but events.jsonl holds 1" in note for note in run.notes)


def test_events_after_the_last_train_line_are_said(write_run):
    events = [event(11, "rate_nan"), event(11, "grad_nan"), event(12, "grad_nan")]
    run = read_run(write_run(own(train_line(10, {})), events))
    assert run.counts["skipped_updates"] == 0
    assert run.notes == ["events.jsonl holds 2 more skipped updates after step 10, the last train_loss line; "
                         "the counts leave them out"]


def test_run_that_died_before_its_first_train_line_counts_events(write_run):
    run = read_run(write_run(own(), [event(1, "rate_nan"), event(2, "high_grad")]))
    assert (run.counts["skipped_updates"], run.counts["nan_updates"], run.counts["high_grad"]) == (2, 1, 1)
    assert "come from events.jsonl" in run.notes[0]


def test_missing_events_file_is_said_where_events_are_counted(write_run):
    assert read_run(write_run(own(train_line(10, {})), events=None)).notes == []
    run = read_run(write_run(own(high_grad_line(10, 2)), events=None))
    assert run.counts["high_grad"] == 2 and len(run.events) == 0
    assert len(run.notes) == 1 and "events.jsonl is missing" in run.notes[0]


def test_without_train_lines_and_events_counts_are_unknown(write_run):
    run = read_run(write_run(own(), events=None))
    assert set(run.counts.values()) == {None} and "events.jsonl is missing" in run.notes[0]


def test_original_windows_are_not_counted_twice(write_run):
    lines = [
        train_line(0), train_line(1), train_line(8, skipped_updates=3, rate_nans=1.0),
        train_line(100, skipped_updates=4, rate_nans=1.0, distortion_nans=0.5),
        train_line(128, skipped_updates=5, rate_nans=1.0),
        train_line(200, skipped_updates=2), train_line(200, skipped_updates=1), train_line(250, skipped_updates=9),
    ]
    hparams = {"seed": 1, "iters_per_print": 100, "dataset": "cifar10"}
    run = read_run(write_run(hparam_lines(hparams) + lines, events=None))
    assert run.parameterization == "original" and run.seed == 1
    assert (run.counts["skipped_updates"], run.counts["nan_updates"], run.counts["high_grad"]) == (6, 1, 5)
    assert run.counts["rate_nan"] == 1 and run.counts["distortion_nan"] == 1 and run.counts["grad_nan"] is None
    assert run.windows.step.tolist() == [0, 100, 200]
    assert any("windows of 100 updates, up to step 200" in note for note in run.notes)
    assert run.last_step == 250


def test_original_counts_of_several_ranks_are_rounded_up(write_run):
    third = 0.3333333432674408  # float32
    lines = [train_line(0), train_line(1000, skipped_updates=5.0, rate_nans=3 * third, distortion_nans=4 * third)]
    run = read_run(write_run(hparam_lines({"seed": 1}) + lines, events=None))
    assert (run.counts["rate_nan"], run.counts["distortion_nan"], run.counts["nan_updates"], run.counts["high_grad"]) == (1, 2, 2, 3)


def test_original_run_restarted_at_a_save_keeps_the_full_window(write_run):
    first = [train_line(0), train_line(10, skipped_updates=4), train_line(10, skipped_updates=4),
             train_line(20, skipped_updates=8), train_line(25, skipped_updates=8)]
    again = [train_line(10, skipped_updates=0), train_line(20, skipped_updates=1)]
    hparams = hparam_lines({"seed": 1, "iters_per_print": 10})
    assert read_run(write_run(hparams + first + hparams + again, events=None)).counts["skipped_updates"] == 5


def test_log_begun_by_the_original_code_and_continued_here(write_run):
    lines = own(train_line(100, skipped_updates=7), high_grad_line(200, 1))
    run = read_run(write_run(lines, [event(150, "high_grad")]))
    assert run.counts["skipped_updates"] == 1
    assert run.notes == ["1 train_loss lines without total counts (the original code's) are left out"]


@pytest.mark.parametrize("hparams, label", [
    ({"sigma_param": "explin"}, "explin"),
    ({"sigma_param": "explin", "prior_const1": True}, "explin/prior_const1"),
    ({"sigma_param": "explin", "posterior": "residual"}, "explin/residual"),
    ({"sigma_param": "exp", "likelihood": "logistic_mixture", "pixel_sigma_param": "bounded", "pixel_loc": "sigmoid"}, "exp"),
    ({"sigma_param": "exp", "likelihood": "normal", "pixel_sigma_param": "global", "pixel_loc": "sigmoid"}, "exp/normal_global"),
    ({"sigma_param": "exp", "likelihood": "normal", "pixel_sigma_param": "exp", "pixel_loc": "identity"}, "exp/normal_exp_identity"),
    ({"sigma_param": "exp", "likelihood": "bernoulli"}, "exp/bernoulli"),
    ({"sigma_param": "explin", "posterior": "absolute"}, "explin"),
    ({"sigma_param": "vanilla", "posterior_sigma_param": "explin", "prior_const1": True}, "explin/prior_const1"),
    ({"sigma_param": "exp", "posterior_sigma_param": "explin"}, "posterior explin, prior exp"),
    ({"sigma_param": "exp", "prior_sigma_param": "upbounded1"}, "posterior exp, prior upbounded1"),
    ({"sigma_param": "vanilla", "posterior_sigma_param": "exp", "prior_sigma_param": "exp"}, "exp"),
])
def test_parameterization_label(write_run, hparams, label):
    assert read_run(write_run(own(**hparams))).parameterization == label


def test_final_loss_prefers_test_then_validation_then_train(write_run):
    lines = own(train_line(10, {}, elbo=math.nan))
    assert read_run(write_run(lines)).final_nelbo == (2.5, "train")
    lines += [loss_line("eval_loss", 10, 2.3), loss_line("eval_loss", 20, 2.2)]
    assert read_run(write_run(lines)).final_nelbo == (2.2, "valid")
    lines += [loss_line("test_loss", 20, 2.1)]
    final = read_run(write_run(lines)).final_nelbo
    assert final == (2.1, "test")
    assert final.bits_per_dim == pytest.approx(3.029659585, rel=1e-9)  # 2.1 / 0.693147180560


def test_nan_loss_stays_nan(write_run):
    run = read_run(write_run(own(train_line(10, {}, elbo=math.nan), loss_line("test_loss", 10, math.nan))))
    assert math.isnan(run.final_nelbo.nats_per_dim) and math.isnan(run.windows.loss[0])


def test_no_loss_at_all(write_run):
    final = read_run(write_run(own())).final_nelbo
    assert math.isnan(final.nats_per_dim) and final.split == "none"


def test_test_loss_older_than_the_run_is_said(write_run):
    test = {"time": "t", "type": "test_loss", "elbo": 2.1}
    assert read_run(write_run(own(train_line(10, {}), test, loss_line("eval_loss", 11, 2.2)))).notes == []
    run = read_run(write_run(own(train_line(10, {}), test, train_line(20, {}))))
    assert run.notes == ["the test loss was measured before the run went on training"]


def test_a_later_test_with_another_scale_does_not_change_what_was_trained(write_run):
    test = [*hparam_lines(OWN_HPARAMS | {"sigma_param": "exp", "seed": 9}), {"time": "t", "type": "test_loss", "elbo": 2.1}]
    run = read_run(write_run([*own(train_line(10, {})), *test]))
    assert (run.parameterization, run.seed, run.final_nelbo.split) == ("explin", 3, "test")
    assert run.notes == ["the test after the training had sigma_param 'exp' instead of 'explin'"]


def test_log_without_hyper_parameters_is_not_taken_for_the_originals(write_run):
    run = read_run(write_run([high_grad_line(10, 1)], [event(3, "high_grad")]))
    assert (run.parameterization, run.seed, run.counts["high_grad"]) == ("unknown", None, 1)
    assert run.notes == ["the log has no hparam lines: parameterization and seed are unknown"]


def test_original_test_loss_has_no_step(write_run):
    line = {"time": "t", "type": "test_loss", "elbo": 2.0, "filtered_elbo": 2.0}
    run = read_run(write_run([*hparam_lines({"seed": 0}), line], events=None))
    assert run.final_nelbo == (2.0, "test") and run.last_step is None and run.counts["skipped_updates"] is None


def test_a_jsonl_file_can_be_named_directly(write_run):
    folder = write_run(own(high_grad_line(10, 1)), [event(2, "high_grad")])
    (folder / "log.jsonl").rename(folder / "latest-log.jsonl")
    run = read_run(folder / "latest-log.jsonl")
    assert run.name == str(folder / "latest-log.jsonl") and len(run.events) == 1


def test_an_event_of_an_update_that_was_applied_is_no_skip(write_run):
    events = [event(1, "grad_nan") | {"skipped": False}, event(2, "grad_nan"), event(4, "high_grad")]
    del events[2]["skipped"]
    counts = event_counts(read_run(write_run(own(), events)).events)
    assert (counts["skipped_updates"], counts["nan_updates"], counts["grad_nan"]) == (2, 2, 2)
