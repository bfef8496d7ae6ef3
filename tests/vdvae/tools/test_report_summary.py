"""The verdict in sentences: who failed, the counts, and losses only with their spread over seeds."""

import math

import pytest

from vdvae.tools.compare import spread
from vdvae.tools.report.summary import RULE, sentences

NOTHING = "No run failed: this says nothing about stability."


def group(label, failed, bits=(5.0,), nan=(0,), skipped=(0,), splits=("valid",)):
    spreads = {"nan_updates": nan, "skipped_updates": skipped, "bits_per_dim": bits}
    spreads = {name: spread(list(values))._asdict() for name, values in spreads.items()}
    return {"parameterization": label, "runs": len(bits), "failed": failed, "splits": list(splits), **spreads}


@pytest.mark.parametrize("failed, sentence", [
    (1, "vanilla: 1 of 1 runs failed, NaN updates 13, skipped updates 23."),
    (0, "vanilla: 0 of 1 runs failed, NaN updates 13, skipped updates 23."),
    (None, "vanilla: whether runs failed is unknown, a log has no counts."),
])
def test_a_sentence_for_each_parameterization_and_then_the_rule(failed, sentence):
    first, second, rule, *_ = sentences([group("vanilla", failed, nan=(13,), skipped=(23,)), group("explin", 1, bits=(5, 6))])
    assert first == sentence and second.startswith("explin: 1 of 2 runs failed, ") and rule == RULE


def test_runs_that_did_not_fail_show_nothing():
    assert sentences([group("vanilla", 0), group("explin", 0)])[-1] == NOTHING
    assert NOTHING not in sentences([group("vanilla", 0), group("explin", None)])


def test_stable_scales_are_recommended_where_runs_failed_that_had_others():
    vanilla, explin, stable = (group(*each) for each in (("vanilla", 1), ("explin", 0), ("explin/prior_const1", 1)))
    assert sentences([vanilla, explin])[-1].startswith("Scales that bear higher learning rates: --stable, which is explin/prior_const1")
    assert sentences([vanilla, stable])[-1] == RULE


def test_losses_stand_with_their_spread_over_seeds():
    first, *_ = sentences([group("vanilla", 0, bits=(2.90, 2.92), skipped=(4, 6))])
    assert first.endswith("skipped updates 5.0 ± 1.4, valid bits/dim 2.910 ± 0.014.")


@pytest.mark.parametrize("bits, splits", [((2.9,), ("valid",)), ((math.nan, 2.9), ("valid",)), ((None, 2.9), ("valid",)),
                                          ((2.8, 2.9), ("test", "valid"))])
def test_losses_that_do_not_compare_are_not_mentioned(bits, splits):
    assert "bits/dim" not in sentences([group("explin", 0, bits=bits, splits=splits)])[0]
