import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import UsageError
from shrinkproof.metrics.alexnet import ALEXNET, mce_alexnet
from shrinkproof.metrics.references import (
    Reference,
    against_reference,
    corruption_error,
    mce,
    mce_terms,
    relative_corruption_error,
    relative_mce,
    relative_mce_terms,
)
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, SEVERITIES, STANDARD_15, Condition
from shrinkproof.statistics import bootstrap_weights, estimate, interval

FOG_1 = Condition("fog", 1)


def full(rate, count=100, clean=None):
    """Return errors of the 15 corruptions; ``rate`` says how many of 100 images fail."""
    errors = {} if clean is None else {CLEAN: np.arange(count) < clean}
    return errors | {
        Condition(name, severity): np.arange(count) < rate(name, severity)
        for name in STANDARD_15
        for severity in SEVERITIES
    }


def base(errors):
    return Reference("base", errors=errors)


def value(number):
    return pytest.approx(number, abs=1e-12)


def test_mce_of_the_reference_is_one():
    errors = full(lambda name, severity: 5 + severity, clean=2)
    assert mce(errors, base(errors)) == 1.0
    assert relative_mce(errors, base(errors)) == 1.0
    assert mce(errors, base(errors), rounded=True) == 1.0


def test_mce_sums_severities_before_it_divides():
    # fog: (10 * 5) / (1 + 2 + 3 + 4 + 5) = 10/3; all others 1.
    reference = base(full(lambda name, severity: severity))
    errors = full(lambda name, severity: 10 if name == "fog" else severity)
    found = corruption_error(errors, reference)
    assert list(found) == list(STANDARD_15)
    assert found["fog"] == value(10 / 3)
    assert found["snow"] == value(1.0)
    assert mce(errors, reference) == value((14 + 10 / 3) / 15)
    assert estimate(mce_terms(errors, reference)) == mce(errors, reference)


def test_relative_mce_compares_what_corruption_adds():
    # Reference adds 4 of 100 at each severity; the model adds 10 under fog and 2 elsewhere.
    reference = base(full(lambda name, severity: 10, clean=6))
    errors = full(lambda name, severity: 30 if name == "fog" else 22, clean=20)
    found = relative_corruption_error(errors, reference)
    assert found["fog"] == value(2.5)
    assert found["snow"] == value(0.5)
    assert relative_mce(errors, reference) == value((14 * 0.5 + 2.5) / 15)
    assert estimate(relative_mce_terms(errors, reference)) == relative_mce(errors, reference)


def test_a_network_that_errs_less_than_on_clean_images_has_a_negative_relative_ce():
    reference = base(full(lambda name, severity: 10, clean=5))
    errors = full(lambda name, severity: 8, clean=10)
    assert relative_mce(errors, reference) == value(-0.4)


def test_mce_ignores_clean_and_extra_corruptions():
    reference = full(lambda name, severity: severity)
    errors = {**reference, CLEAN: np.ones(100), Condition("spatter", 1): np.ones(100)}
    assert mce(errors, base(reference)) == value(1.0)


def test_mce_refuses_partial_input():
    reference = full(lambda name, severity: severity)
    without_fog = {c: e for c, e in reference.items() if c.corruption != "fog"}
    assert mce(without_fog, base(reference)) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; fog is missing"
    )
    partial = {c: e for c, e in without_fog.items() if c != Condition("frost", 4)}
    assert mce(partial, base(reference)) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; frost:4, fog are missing"
    )
    assert mce(reference, base(without_fog)) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; fog of the reference is missing"
    )
    assert relative_mce(reference, base(reference), rounded=True) == Undefined(
        "relative mCE needs all 15 corruptions at severities 1-5 and clean; clean is missing"
    )


def test_ce_refuses_missing_severities():
    reference = base(full(lambda name, severity: severity))
    found = corruption_error({FOG_1: np.ones(100), CLEAN: np.ones(100)}, reference)
    assert found == {
        "fog": Undefined(
            "CE of fog needs all severities 1-5; fog:2, fog:3, fog:4, fog:5 are missing"
        )
    }


def test_a_reference_without_errors_leaves_ratios_undefined_but_not_differences():
    errors = full(lambda name, severity: 10, clean=5)
    reference = base(full(lambda name, severity: 0 if name in ("snow", "fog") else 10, clean=0))
    found = against_reference(errors, reference)
    assert mce(errors, reference) == Undefined("mCE: the reference makes no error under snow, fog")
    assert found["robustness.ce", "snow"].value == Undefined(
        "CE of snow: the reference makes no error under snow"
    )
    assert found["robustness.ce_difference", "snow"].value == value(0.1)
    assert relative_mce(errors, reference) == Undefined(
        "relative mCE: the reference errs no more than on clean images under snow, fog"
    )
    assert found["robustness.relative_ce_difference", "snow"].value == value(0.05)


def test_a_corruption_that_helps_the_reference_leaves_relative_mce_undefined():
    reference = base(full(lambda name, severity: 4 if name == "brightness" else 10, clean=5))
    errors = full(lambda name, severity: 10, clean=5)
    assert relative_mce(errors, reference) == Undefined(
        "relative mCE: the reference errs no more than on clean images under brightness"
    )
    assert mce(errors, reference) == value((14 + 2.5) / 15)


def test_other_images_than_the_reference_are_refused():
    errors, reference = full(lambda *_: 1), full(lambda *_: 1, count=99)
    with pytest.raises(UsageError, match="got 100 and 99"):
        mce(errors, base(reference))


def test_no_images_leave_mce_undefined():
    empty = full(lambda *_: 1, count=0)
    assert mce(empty, base(empty)) == Undefined("mCE needs at least one image")


def test_a_reference_has_one_kind_of_errors():
    with pytest.raises(UsageError, match="errors per image or fixed rates, got both"):
        Reference("x", errors={FOG_1: np.zeros(1)}, rates={"fog": 0.5})
    with pytest.raises(UsageError, match=r"rates must be 0 to 1, got 85.3 for fog"):
        Reference("x", rates={"fog": 85.3})


def test_every_number_names_its_reference_and_its_own_corruption():
    errors = full(lambda name, severity: 10 * severity, clean=5)
    found = against_reference(errors, base(errors))
    assert len(found) == 4 * 15 + 2
    assert {metric for metric, _ in found} == {
        "robustness.ce",
        "robustness.ce_difference",
        "robustness.relative_ce",
        "robustness.relative_ce_difference",
        "robustness.mce",
        "robustness.relative_mce",
    }
    assert {number.caveat for number in found.values()} == {"reference: base"}


@pytest.mark.parametrize("few", [4, 5])
def test_a_small_error_of_the_reference_is_named(few):
    errors = full(lambda name, severity: few if name == "pixelate" else 20)
    found = against_reference(errors, base(errors))
    is_small = few < 5
    for metric, place in (("robustness.ce", "pixelate"), ("robustness.mce", "corrupted")):
        assert ("below 5 % under pixelate:" in found[metric, place].caveat) == is_small
    assert found["robustness.ce", "snow"].caveat == "reference: base"


def test_a_small_added_error_of_the_reference_is_named():
    # 200 images, 1.5 points more errors under brightness; elsewhere 10 more.
    reference = full(lambda name, _: 43 if name == "brightness" else 60, count=200, clean=40)
    caveat = against_reference(reference, base(reference))["robustness.relative_mce", "corrupted"]
    assert "added error is below 2 points, or not clearly above 0, under brightness:" in (
        caveat.caveat
    )


def flipped(count, gained, lost):
    """Return clean errors, and corrupted ones of which some are gained and some are lost."""
    clean, corrupted = np.zeros(count), np.zeros(count)
    clean[:lost], corrupted[lost : lost + gained] = 1, 1
    return {CLEAN: clean, **{Condition("fog", s): corrupted for s in SEVERITIES}}


def test_an_added_error_within_its_noise_is_named():
    # 2.5 points more errors, from 30 images gained and 25 lost of 200: 0.67 standard errors.
    noisy, sure = flipped(200, 30, 25), flipped(200, 5, 0)
    place = ("robustness.relative_ce", "fog")
    assert "not clearly above 0" in against_reference(noisy, base(noisy))[place].caveat
    assert "not clearly" not in against_reference(sure, base(sure))[place].caveat
    # The same five images are one group: one lucky drive, not five independent images.
    groups = np.maximum(np.arange(200) - 4, 0)
    found = against_reference(sure, base(sure), groups=groups)
    assert "not clearly above 0" in found[place].caveat


def test_mce_has_an_interval_paired_by_image():
    draws = np.random.default_rng(0)
    hard = draws.random(500)
    reference = {c: hard < (0.1 if c.is_clean else 0.2) for c in full(lambda *_: 0, clean=0)}
    errors = {c: hard < (0.1 if c.is_clean else 0.3) for c in reference}
    weights = bootstrap_weights(500, seed=0)
    for terms_of, point in ((mce_terms, mce), (relative_mce_terms, relative_mce)):
        found = interval(terms_of(errors, base(reference)), weights)
        assert found.method == "bootstrap-percentile"
        assert found.low < point(errors, base(reference)) < found.high
        assert not interval(terms_of(reference, base(reference)), weights).is_stated


def test_alexnet_is_its_own_reference():
    rates = {
        Condition(name, severity): np.array([ALEXNET.rates[name]])
        for name in STANDARD_15
        for severity in SEVERITIES
    }
    found = mce_alexnet(rates, preset="imagenet", has_frost_photos=True, count=5000)
    assert found.value == value(1.0)
    assert found.caveat == (
        "reference: AlexNet; 5,000 images; published values are about the 50,000 of the validation "
        "set; published values are about images stored as JPEG of quality 85"
    )
    complete = mce_alexnet(
        rates, preset="imagenet", has_frost_photos=True, is_jpeg85=True, count=50_000
    )
    assert complete.caveat == "reference: AlexNet; 50,000 images"
    assert relative_mce({**rates, CLEAN: np.array([0.435])}, ALEXNET) == value(1.0)
    assert set(ALEXNET.rates) == {"clean", *STANDARD_15}


def test_a_fixed_reference_does_not_vary_between_resamples():
    draws = np.random.default_rng(3)
    errors = {c: draws.random(300) < 0.5 for c in full(lambda *_: 0)}
    terms = mce_alexnet(errors, preset="imagenet", has_frost_photos=True).terms
    assert np.ptp(terms.values[:, 15:], axis=0).max() == 0
    found = interval(terms, bootstrap_weights(300, seed=0))
    assert found.low < estimate(terms) < found.high


def test_alexnet_needs_what_imagenet_c_is():
    errors = full(lambda *_: 50)
    assert mce_alexnet(errors, preset="cifar", has_frost_photos=False).value == Undefined(
        "mCE relative to AlexNet needs the preset imagenet (got cifar) and the original photos of "
        "frost (got procedural frost)"
    )
    del errors[FOG_1]
    assert mce_alexnet(errors, preset="imagenet", has_frost_photos=True).value == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; fog:1 is missing"
    )
    assert isinstance(corruption_error({**full(lambda *_: 1)}, ALEXNET)["fog"], float)


def test_a_fixed_reference_says_what_it_lacks():
    fixed = Reference("paper", rates={name: 0.5 for name in STANDARD_15 if name != "fog"})
    assert mce(full(lambda *_: 50), fixed) == Undefined(
        "mCE needs all 15 corruptions at severities 1-5; fog of the reference is missing"
    )


def test_rounding_goes_to_the_even_percent():
    # Each CE is 12.5 %: to the even neighbor 12; fog 37.5 %: to 38. All rates are exact in binary.
    reference = base(full(lambda name, severity: 64, count=128))
    errors = full(lambda name, severity: 24 if name == "fog" else 8, count=128)
    assert mce(errors, reference) == value((14 * 0.125 + 0.375) / 15)
    assert mce(errors, reference, rounded=True) == value(0.137)  # (14 * 12 + 38) / 15 = 13.73


def test_rounding_works_against_fixed_rates():
    reference = Reference("paper", rates={"clean": 0.1, **dict.fromkeys(STANDARD_15, 0.3)})
    errors = full(lambda name, severity: 21, clean=10)
    assert mce(errors, reference, rounded=True) == value(0.7)
    assert relative_mce(errors, reference, rounded=True) == value(0.55)


counts = st.lists(st.integers(1, 60), min_size=15, max_size=15)


def of_counts(failing, clean=0):
    return full(lambda name, severity: failing[STANDARD_15.index(name)] + severity, clean=clean)


@settings(max_examples=25, deadline=None)
@given(counts)
def test_any_network_is_its_own_reference(failing):
    errors = of_counts(failing)
    assert mce(errors, base(errors)) == value(1.0)
    assert relative_mce(errors, base(errors)) == value(1.0)


@settings(max_examples=25, deadline=None)
@given(counts, st.floats(0.05, 1.0))
def test_mce_scales_with_the_errors(failing, factor):
    errors = of_counts(failing)
    scaled = {c: factor * values for c, values in errors.items()}
    assert mce(scaled, base(errors)) == value(factor)
    assert relative_mce(scaled, base(errors)) == value(factor)
    assert mce(errors, base(scaled)) == pytest.approx(1 / factor)


@settings(max_examples=25, deadline=None)
@given(counts, counts, st.randoms(use_true_random=False))
def test_order_of_images_and_conditions_does_not_matter(failing, others, random):
    errors, reference = of_counts(failing), of_counts(others)
    expected = mce(errors, base(reference))
    order = list(range(100))
    random.shuffle(order)
    conditions = list(errors)
    random.shuffle(conditions)
    shuffled = {c: errors[c][order] for c in conditions}
    assert mce(shuffled, base({c: reference[c][order] for c in reference})) == value(expected)


@settings(max_examples=25, deadline=None)
@given(counts, counts, st.integers(0, 14))
def test_more_errors_never_lower_mce(failing, others, position):
    reference = base(of_counts(others))
    worse = [n + (i == position) for i, n in enumerate(failing)]
    less, more = mce(of_counts(failing), reference), mce(of_counts(worse), reference)
    assert more > less
    assert relative_mce(of_counts(worse), reference) > relative_mce(of_counts(failing), reference)
