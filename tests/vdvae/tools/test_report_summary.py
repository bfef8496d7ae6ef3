"""The sentences that say whether it helped: counts, the loss against the spread over seeds, what they refuse."""

import math

from vdvae.tools.compare import spread
from vdvae.tools.report.summary import sentences


def group(label, bits, skipped=(0,), splits=("valid",)):
    spreads = {"skipped_updates": skipped, "nan_updates": skipped, "bits_per_dim": bits}
    spreads = {name: spread(list(values))._asdict() for name, values in spreads.items()}
    return {"parameterization": label, "splits": list(splits), **spreads}


def test_counts_and_loss_stand_against_the_baselines():
    [sentence] = sentences([group("vanilla", (2.90, 2.92), (4, 6)), group("explin", (2.75, 2.77), (0, 1))])
    assert sentence == ("explin (in brackets: vanilla): 0.5 ± 0.7 skipped updates (5.0 ± 1.4), 0.5 ± 0.7 NaN updates "
                        "(5.0 ± 1.4), 2.760 ± 0.014 bits/dim (2.910 ± 0.014): the loss is lower by 0.150, "
                        "more than the larger standard deviation of 0.014.")


def test_a_difference_within_the_spread_is_called_so():
    [sentence] = sentences([group("vanilla", (2.90, 2.91)), group("explin", (2.90, 3.00))])
    assert sentence.endswith("the loss is higher by 0.045, no more than the larger standard deviation of 0.071.")


def test_one_seed_says_little():
    [sentence] = sentences([group("vanilla", (2.90, 2.91)), group("explin", (2.80,))])
    assert sentence.endswith("the loss is lower by 0.105; with one seed that says little.")


def test_a_loss_that_is_not_finite_is_not_compared():
    for bits in ((math.nan, 2.9), (math.inf, 2.9), (None, 2.9)):
        [sentence] = sentences([group("vanilla", (2.90, 2.91)), group("explin", bits)])
        assert sentence.endswith("a run without a finite loss is among them, so the losses do not compare.")


def test_losses_of_different_splits_are_not_compared():
    [sentence] = sentences([group("vanilla", (2.90,)), group("explin", (2.80,), splits=("test", "valid"))])
    assert sentence.endswith("the losses are of different splits (test/valid and valid), so they do not compare.")


def test_the_baseline_is_vanilla_else_the_original_else_none():
    original, vanilla, explin = (group(label, (2.9,)) for label in ("original", "vanilla", "explin"))
    assert [text.split(" (in")[0] for text in sentences([vanilla, explin, original])] == ["explin", "original"]
    assert sentences([explin, original])[0].startswith("explin (in brackets: original)")
    assert sentences([explin]) == []
