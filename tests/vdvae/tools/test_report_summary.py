"""The verdict in sentences: who failed, the counts of both, and losses only beside their spread over seeds."""

import math

import pytest

from vdvae.tools.compare import spread
from vdvae.tools.report.summary import RULE, sentences


def group(label, failed, bits=(5.0,), nan=(0,), skipped=(0,), splits=("valid",)):
    spreads = {"nan_updates": nan, "skipped_updates": skipped, "bits_per_dim": bits}
    spreads = {name: spread(list(values))._asdict() for name, values in spreads.items()}
    return {"parameterization": label, "runs": len(bits), "failed": failed, "splits": list(splits), **spreads}


@pytest.mark.parametrize("theirs, ours, verdict", [
    (1, 0, "Failed: vanilla in 1 of 1 runs. explin in none of 1."),
    (1, 1, "Both failed: vanilla in 1 of 1 runs, explin in 1 of 1 runs."),
    (0, 0, "No run failed (vanilla, explin): this says nothing about stability."),
    (0, 1, "Failed: explin in 1 of 1 runs. vanilla in none of 1."),
    (None, 1, "Whether vanilla or explin failed is unknown: a log has no counts."),
])
def test_the_verdict_by_who_failed(theirs, ours, verdict):
    first, rule, *_ = sentences([group("vanilla", theirs), group("explin", ours)])
    assert first.startswith(verdict + " ") and rule == RULE


def test_stable_scales_are_recommended_where_runs_failed_that_had_others():
    vanilla, fine, explin, stable = (group(*each) for each in (("vanilla", 1), ("vanilla", 0), ("explin", 0), ("explin/prior_const1", 1)))
    assert sentences([vanilla, explin])[-1].startswith("The scales that bore the most: --stable, which is explin/prior_const1")
    assert sentences([vanilla, stable])[-1] == sentences([fine, explin])[-1] == RULE


def test_counts_stand_beside_the_baselines_and_a_lone_seeds_loss_is_not_mentioned():
    first, *_ = sentences([group("vanilla", 1, nan=(13,), skipped=(23,)), group("explin", 0, skipped=(2,))])
    assert first.endswith("vanilla and explin: NaN updates 13 and 0, skipped updates 23 and 2.")


def test_losses_stand_beside_their_spread_over_seeds():
    first, _ = sentences([group("vanilla", 0, bits=(2.90, 2.92), skipped=(4, 6)), group("explin", 0, bits=(2.75, 2.77))])
    assert first.endswith("skipped updates 5.0 ± 1.4 and 0, bits/dim 2.910 ± 0.014 and 2.760 ± 0.014.")


@pytest.mark.parametrize("bits, splits", [((2.9,), ("valid",)), ((math.nan, 2.9), ("valid",)), ((None, 2.9), ("valid",)),
                                          ((2.8, 2.9), ("test", "valid"))])
def test_losses_that_do_not_compare_are_not_mentioned(bits, splits):
    first, _ = sentences([group("vanilla", 0, bits=(2.90, 2.91)), group("explin", 0, bits=bits, splits=splits)])
    assert "bits/dim" not in first


def test_the_baseline_is_vanilla_else_the_original_else_none():
    original, vanilla, explin = (group(label, 0) for label in ("original", "vanilla", "explin"))
    assert [text.split(" (")[0] for text in sentences([vanilla, explin, original])[:-1]] == ["No run failed"] * 2
    assert sentences([explin, original])[0].startswith("No run failed (original, explin)")
    assert sentences([explin]) == sentences([vanilla]) == []
