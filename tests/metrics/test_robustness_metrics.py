import numpy as np
import pytest

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import SETS
from shrinkproof.errors import UsageError
from shrinkproof.metrics.robustness import (
    GROUPS,
    averaged,
    error_terms,
    mean_error,
    mean_error_terms,
    relative_robustness_terms,
    retention_terms,
    under_corruption,
    worst_error,
)
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, SEVERITIES, STANDARD_15, Condition
from shrinkproof.statistics import bootstrap_weights, estimate, interval

FOG_1, FOG_2 = Condition("fog", 1), Condition("fog", 2)


def wrong(*rows):
    """Return the errors of ten images of which the first ``count`` fail."""
    return {Condition.parse(text): np.arange(10) < count for text, count in rows}


def test_mean_error_averages_conditions_for_each_image():
    errors = {FOG_1: np.array([True, False]), FOG_2: np.array([True, True])}
    assert mean_error(errors).tolist() == [1.0, 0.5]
    assert estimate(mean_error_terms(errors)) == 0.75
    assert not mean_error_terms(errors).is_binary
    assert mean_error_terms({FOG_1: errors[FOG_1]}).is_binary


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({}, "at least one corrupted condition"),
        ({CLEAN: np.zeros(2)}, "clean is no corruption"),
        ({FOG_1: np.zeros(2), FOG_2: np.zeros(3)}, r"\(2,\) for fog:1 and \(3,\) for fog:2"),
        ({FOG_1: np.array([0, 2])}, "0 to 1, got others under fog:1"),
        ({FOG_1: np.array([np.nan])}, "0 to 1"),
    ],
)
def test_impossible_errors_are_refused(errors, message):
    with pytest.raises(UsageError, match=message):
        mean_error(errors)


def test_groups_are_the_families_of_the_corruptions():
    extra = SETS["extra-corruptions"]
    assert set(GROUPS["extra"]) == set(extra)
    assert {name for group in GROUPS.values() for name in group} == set(CORRUPTIONS.builtin)
    for name in STANDARD_15:
        assert name in GROUPS[CORRUPTIONS.get(name).family]


def test_numbers_under_corruption_by_hand():
    # fog errs on (2 + 4) / 2 = 3 of 10, snow on 6, spatter on 1; clean accuracy is 0.8.
    found = under_corruption(
        wrong(("clean", 2), ("fog:1", 2), ("fog:2", 4), ("snow:3", 6), ("spatter:5", 1))
    )
    values = {place: pytest.approx(number.value) for place, number in found.items()}
    assert values == {
        ("robustness.error", "fog"): 0.3,
        ("robustness.error", "snow"): 0.6,
        ("robustness.error", "spatter"): 0.1,
        ("robustness.error", "weather"): 0.45,
        ("robustness.error", "extra"): 0.1,
        ("robustness.mean_error", "corrupted"): 0.325,
        ("robustness.worst_error", "corrupted"): 0.6,
        ("robustness.retention", "corrupted"): 0.675 / 0.8,
    }
    assert found["robustness.worst_error", "corrupted"].caveat.startswith(
        "worst of 3 corruptions: snow"
    )
    assert found["robustness.error", "weather"].caveat == (
        "mean over snow at severity 3; fog at severities 1, 2"
    )
    assert found["robustness.mean_error", "corrupted"].caveat == (
        "mean over fog at severities 1, 2; snow at severity 3; spatter at severity 5"
    )


def test_a_full_corruption_or_group_needs_no_list():
    errors = {Condition(n, s): np.zeros(3) for n in GROUPS["noise"] for s in SEVERITIES}
    assert averaged(errors, GROUPS["noise"], "noise") == ""
    assert averaged(errors, ("shot_noise",), "shot_noise") == ""
    assert averaged(errors, ("shot_noise",), "noise") != ""
    standard = {Condition(n, s): np.zeros(3) for n in STANDARD_15 for s in (1, 3)}
    assert averaged(standard, STANDARD_15, "corrupted") == (
        "mean over the 15 standard corruptions at severities 1, 3"
    )
    del errors[Condition("shot_noise", 2)]
    assert averaged(errors, ("shot_noise",), "shot_noise") == (
        "mean over shot_noise at severities 1, 3, 4, 5"
    )


def test_each_corruption_of_a_group_has_the_same_weight():
    errors = wrong(("fog:1", 0), ("fog:2", 0), ("fog:3", 0), ("snow:1", 10))
    assert estimate(error_terms(errors, ("fog", "snow"))) == 0.5


def test_an_unmeasured_corruption_has_no_error():
    with pytest.raises(UsageError, match=r"robustness\.error of frost: needs at least one"):
        error_terms(wrong(("fog:1", 1)), ("frost",))


def test_the_first_of_equally_bad_corruptions_is_the_worst():
    assert "snow" in worst_error(wrong(("snow:1", 3), ("fog:1", 3))).caveat
    assert worst_error(wrong(("fog:1", 3))).caveat == "worst of 1 corruptions: fog"


def test_retention_is_undefined_without_clean_accuracy():
    assert retention_terms(wrong(("fog:1", 5))) == Undefined(
        "robustness.retention needs the clean images; they are missing"
    )
    assert retention_terms(wrong(("clean", 10), ("fog:1", 10))) == Undefined(
        "robustness.retention: the clean accuracy is 0, so nothing can be kept"
    )
    empty = {CLEAN: np.zeros(0), FOG_1: np.zeros(0)}
    assert retention_terms(empty) == Undefined("robustness.retention needs at least one image")
    assert isinstance(worst_error(empty).value, Undefined)
    with pytest.raises(UsageError, match="at least one corrupted condition"):
        retention_terms({CLEAN: np.zeros(2)})


def test_clean_and_corrupted_images_are_resampled_together():
    hard = np.random.default_rng(1).random(400)
    errors = {CLEAN: hard < 0.2, FOG_1: hard < 0.2}
    weights = bootstrap_weights(400, seed=0)
    assert not interval(retention_terms(errors), weights).is_stated  # always exactly 1
    found = interval(retention_terms({CLEAN: hard < 0.2, FOG_1: hard < 0.3}), weights)
    assert found.low < 0.7 / 0.8 < found.high


def test_relative_robustness_is_the_gain_in_accuracy():
    own, baseline = wrong(("clean", 3), ("fog:1", 2)), wrong(("clean", 1), ("fog:1", 5))
    assert estimate(relative_robustness_terms(own, baseline)) == pytest.approx(0.3)
    assert estimate(relative_robustness_terms(baseline, own)) == pytest.approx(-0.3)


def test_relative_robustness_needs_the_same_conditions():
    one, two = wrong(("fog:1", 2)), wrong(("fog:1", 2), ("fog:2", 3))
    start = "robustness.relative needs the same conditions of both networks; fog:2 "
    assert relative_robustness_terms(two, one) == Undefined(f"{start}of the baseline is missing")
    assert relative_robustness_terms(one, two) == Undefined(f"{start}is missing")


def test_error_rates_measured_elsewhere_are_one_pseudo_image():
    rates = {CLEAN: np.array([0.2]), FOG_1: np.array([0.25]), FOG_2: np.array([0.55])}
    found = under_corruption(rates)
    assert found["robustness.mean_error", "corrupted"].value == pytest.approx(0.4)
    assert found["robustness.retention", "corrupted"].value == pytest.approx(0.75)
    terms = found["robustness.retention", "corrupted"].terms
    assert not interval(terms, bootstrap_weights(1, seed=0)).is_stated
