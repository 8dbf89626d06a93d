import numpy as np
import pytest

from shrinkproof.errors import UsageError
from shrinkproof.metrics.robustness import (
    SEVERITIES,
    STANDARD_15,
    Undefined,
    corruption_error,
    mce,
    mce_terms,
    mean_error,
    mean_error_terms,
)
from shrinkproof.records import CLEAN, Condition
from shrinkproof.statistics import bootstrap_weights, estimate, interval

FOG_1, FOG_2 = Condition("fog", 1), Condition("fog", 2)


def full(rate, count=100):
    """Return errors of the 15 corruptions; ``rate`` says how many of 100 images fail."""
    return {
        Condition(name, severity): np.arange(count) < rate(name, severity)
        for name in STANDARD_15
        for severity in SEVERITIES
    }


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


def test_mce_of_the_reference_is_one():
    reference = full(lambda name, severity: 5 + severity)
    assert mce(reference, reference) == 1.0


def test_mce_sums_severities_before_it_divides():
    # fog: (10 * 5) / (1 + 2 + 3 + 4 + 5) = 10/3; all others 1.
    reference = full(lambda name, severity: severity)
    errors = full(lambda name, severity: 10 if name == "fog" else severity)
    found = corruption_error(errors, reference)
    assert list(found) == list(STANDARD_15)
    assert found["fog"] == pytest.approx(10 / 3)
    assert found["snow"] == 1.0
    assert mce(errors, reference) == pytest.approx((14 + 10 / 3) / 15)
    assert estimate(mce_terms(errors, reference)) == mce(errors, reference)


def test_mce_ignores_clean_and_extra_corruptions():
    reference = full(lambda name, severity: severity)
    errors = {**reference, CLEAN: np.ones(100), Condition("spatter", 1): np.ones(100)}
    assert mce(errors, reference) == 1.0


def test_mce_refuses_partial_input():
    reference = full(lambda name, severity: severity)
    without_fog = {c: e for c, e in reference.items() if c.corruption != "fog"}
    assert mce(without_fog, reference) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; fog is missing"
    )
    partial = {c: e for c, e in without_fog.items() if c != Condition("frost", 4)}
    assert mce(partial, reference) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; frost:4, fog are missing"
    )
    assert mce(reference, without_fog) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; fog of the reference is missing"
    )


def test_ce_refuses_missing_severities():
    reference = full(lambda name, severity: severity)
    found = corruption_error({FOG_1: np.ones(100), CLEAN: np.ones(100)}, reference)
    assert found == {
        "fog": Undefined(
            "CE of fog needs all severities 1-5; fog:2, fog:3, fog:4, fog:5 are missing"
        )
    }


def test_a_perfect_reference_leaves_mce_undefined():
    errors = full(lambda name, severity: severity)
    reference = full(lambda name, severity: 0 if name in ("snow", "fog") else severity)
    assert mce(errors, reference) == Undefined("mCE: the reference makes no error under snow, fog")


def test_other_images_than_the_reference_are_refused():
    errors, reference = full(lambda *_: 1), full(lambda *_: 1, count=99)
    with pytest.raises(UsageError, match="got 100 and 99"):
        mce(errors, reference)


def test_no_images_leave_mce_undefined():
    empty = full(lambda *_: 1, count=0)
    assert mce(empty, empty) == Undefined("mCE needs at least one image")


def test_mce_has_an_interval_paired_by_image():
    draws = np.random.default_rng(0)
    hard = draws.random(500)
    reference = {c: hard < 0.2 for c in full(lambda *_: 0)}
    errors = {c: hard < 0.3 for c in reference}
    found = interval(mce_terms(errors, reference), bootstrap_weights(500, seed=0))
    assert found.method == "bootstrap-percentile"
    assert found.low < mce(errors, reference) < found.high
    same = interval(mce_terms(reference, reference), bootstrap_weights(500, seed=0))
    assert not same.is_stated
