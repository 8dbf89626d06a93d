"""Intervals of changes of calibration errors, and of two models on the same images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import UsageError
from shrinkproof.statistics import (
    Terms,
    bootstrap_weights,
    difference,
    estimate,
    interval,
    intervals,
    paired_interval,
    replicates,
)
from shrinkproof.statistics.deviations import paired_deviation_ends


def bins(gap_N, bin_N, count=3):
    values = np.zeros((len(gap_N), count))
    values[np.arange(len(gap_N)), bin_N] = gap_N
    return Terms(values=values, kind="absolute-sum")


def model(draws, size=600, wrong=0.2, confidence=0.85):
    """Return the terms of a model with one confidence, spread over three bins."""
    return bins(
        np.where(draws.random(size) < wrong, confidence, confidence - 1), np.arange(size) % 3
    )


def weights(count, **more):
    return bootstrap_weights(count, seed=0, **{"replicates": 400, **more})


class TestDifference:
    def test_the_estimate_is_the_difference_of_the_estimates(self):
        draws = np.random.default_rng(0)
        a, b = model(draws), model(draws, wrong=0.4)
        change = difference(a, b)
        assert change.kind == "absolute-sum-difference"
        assert estimate(change) == pytest.approx(estimate(a) - estimate(b), abs=1e-12)

    def test_each_replicate_is_the_difference_of_the_replicates(self):
        draws = np.random.default_rng(1)
        a, b, matrix = model(draws), model(draws), weights(600, replicates=7)
        found = replicates(difference(a, b), matrix)
        expected = replicates(a, matrix) - replicates(b, matrix)
        assert found == pytest.approx(expected, abs=1e-6)  # float32 product

    def test_fewer_bins_are_filled_with_empty_ones(self):
        draws = np.random.default_rng(2)
        a = model(draws)
        b = Terms(values=a.values[:, :2], kind="absolute-sum")
        assert difference(a, b).values.shape == (600, 6)
        assert estimate(difference(b, a)) == pytest.approx(estimate(b) - estimate(a))

    def test_another_kind_is_refused(self):
        values = np.zeros((5, 2))
        binned = Terms(values=values, kind="absolute-sum")
        with pytest.raises(UsageError, match="got absolute-sum and mean-of-ratios"):
            difference(binned, Terms(values=values, kind="mean-of-ratios"))
        with pytest.raises(UsageError, match="as many columns, got 3"):
            Terms(values=np.zeros((5, 3)), kind="absolute-sum-difference")


class TestInterval:
    def test_it_contains_the_estimate_and_turns_with_the_order(self):
        draws = np.random.default_rng(3)
        a, b, matrix = model(draws, wrong=0.3), model(draws), weights(600)
        found, turned = paired_interval(a, b, matrix), paired_interval(b, a, matrix)
        assert found.method == "l1-deviation-paired"
        assert found.low <= estimate(a) - estimate(b) <= found.high
        assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-6)

    def test_a_model_that_gets_worse_has_an_interval_above_zero(self):
        draws = np.random.default_rng(4)
        found = paired_interval(model(draws, wrong=0.5), model(draws, wrong=0.15), weights(600))
        assert found.low > 0

    def test_pairing_makes_it_narrower(self):
        draws = np.random.default_rng(5)
        a, other, matrix = model(draws, wrong=0.4), model(draws, wrong=0.4), weights(600)
        values = a.values.copy()
        values[:20] = other.values[:20]
        alike = paired_interval(a, Terms(values=values, kind="absolute-sum"), matrix)
        apart = paired_interval(a, other, matrix)
        assert alike.high - alike.low < 0.8 * (apart.high - apart.low)

    def test_equal_models_leave_what_the_images_cannot_rule_out(self):
        a = model(np.random.default_rng(6))
        found = paired_interval(a, a, weights(600))
        assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 600))

    def test_few_changed_images_widen_it_by_their_exact_share(self):
        a = model(np.random.default_rng(7))
        values = a.values.copy()
        right = np.flatnonzero(values.sum(axis=1) < 0)[:9]
        values[right] *= -0.85 / 0.15
        b = Terms(values=values, kind="absolute-sum")
        means = (weights(600) @ difference(b, a).values) / weights(600).sum(axis=1, keepdims=True)
        low, high = paired_deviation_ends(difference(b, a).values.mean(axis=0), means, 0.025)
        found = paired_interval(b, a, weights(600))
        unseen = 0.0283  # Clopper-Pearson, 9 of 600
        assert found.low == pytest.approx(low - unseen, abs=2e-4)
        assert found.high == pytest.approx(high + unseen, abs=2e-4)

    def test_few_changed_images_in_groups_have_none(self):
        a = model(np.random.default_rng(8))
        groups = np.arange(600) // 2
        found = paired_interval(a, a, weights(600, groups=groups), group_count=300)
        assert "only one of the two gets right, got 0" in found.reason

    def test_groups_resampled_whole_widen_it(self):
        draws = np.random.default_rng(9)
        wrong = np.repeat(draws.random((2, 120)) < 0.3, 5, axis=1)
        bin_N = np.repeat(np.arange(120), 5) % 3
        a, b = (bins(np.where(row, 0.85, -0.15), bin_N) for row in wrong)
        groups = np.repeat(np.arange(120), 5)
        alone = paired_interval(a, b, weights(600))
        grouped = paired_interval(a, b, weights(600, groups=groups), group_count=120)
        assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)

    def test_too_few_errors_of_either_model_have_none(self):
        draws = np.random.default_rng(10)
        found = paired_interval(model(draws), model(draws, wrong=0.002), weights(600))
        assert "10 right and 10 wrong predictions" in found.reason

    def test_too_few_images_per_bin_have_none(self):
        a = model(np.random.default_rng(11), size=50)
        assert "at least 60 images, got 50" in paired_interval(a, a, weights(50)).reason

    def test_one_replicate_is_not_enough(self):
        a = model(np.random.default_rng(12))
        assert "2 resampled" in paired_interval(a, a, weights(600, replicates=1)).reason

    def test_changes_and_other_metrics_share_one_product(self):
        draws = np.random.default_rng(13)
        a, b, matrix = model(draws), model(draws, wrong=0.3), weights(600)
        together = intervals({"a": a, "change": difference(a, b)}, matrix)
        alone = interval(difference(a, b), matrix)
        assert together["change"].low == pytest.approx(alone.low, abs=1e-6)
        assert together["a"].method == "l1-deviation"


@given(st.integers(0, 10_000))
def test_both_bounds_hold_where_no_sign_is_mistaken(seed):
    draws = np.random.default_rng(seed)
    # A calibration error is at most 1: four gaps of at most 0.24.
    truth_2K = draws.choice([-0.2, 0, 0, 0.1], (2, 4)) * draws.uniform(1, 1.2, (2, 4))
    shift_2K = draws.uniform(-0.09, 0.09, (2, 4))
    gaps_K = (truth_2K + shift_2K).ravel()
    # Replicates that deviate as the sample did, in both directions.
    means_RK = gaps_K + np.outer([1, -1], shift_2K.ravel())
    low, high = paired_deviation_ends(gaps_K, means_RK, 0.0)
    change = np.abs(truth_2K[0]).sum() - np.abs(truth_2K[1]).sum()
    assert low - 1e-9 <= max(-1, min(1, change)) <= high + 1e-9


FAST = [
    ("sharp", ("uniform", 0.0), ("uniform", 0.0), "related", 1_000, "equal-width"),
    ("certain", ("uniform", 0.05), ("uniform", 0.05), "independent", 1_000, "equal-width"),
    ("sharp", ("uniform", 0.05), ("uniform", 0.0), "close", 1_000, "equal-width"),
    ("flat", ("uniform", 0.0), ("uniform", 0.05), "related", 1_000, "equal-width"),
    ("sharp", ("top", 0.05), ("alternating", 0.05), "nearly equal", 1_000, "equal-width"),
    ("sharp", ("uniform", 0.02), ("under", 0.02), "related", 2_000, "equal-mass"),
]


@pytest.mark.parametrize(
    ("confidence", "first", "second", "likeness", "count", "metric"),
    FAST,
    ids=["-".join(map(str, case)) for case in FAST],
)
def test_changes_of_calibration_are_covered(
    script, refutes, confidence, first, second, likeness, count, metric
):
    world = script.World(confidence, *first, count, metric=metric)
    found = script.simulate_change(script.Pair(world, *second, likeness), 100, replicates=300)
    assert found.stated > 50
    assert not refutes(found.covered, found.stated, 0.93), found


@pytest.mark.slow
def test_changes_of_calibration_are_covered_in_a_sample_of_the_published_table(script, refutes):
    small = [pair for pair in script.pairs() if pair.first.count <= 1_000]
    for pair in small[::23]:
        found = script.simulate_change(pair, 100, replicates=300)
        wrong = (1 - found.covered) * found.stated / 100 if found.stated else 0.0
        assert not refutes(1 - wrong, 100, 0.93), (pair, found)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("part", range(8))
def test_changes_of_calibration_are_covered_in_the_published_table(script, refutes, part):
    for pair in script.pairs()[part::8]:
        found = script.simulate_change(pair, 200)
        wrong = (1 - found.covered) * found.stated / 200 if found.stated else 0.0
        assert not refutes(1 - wrong, 200, 0.93), (pair, found)


def test_a_few_changed_images_are_covered(script, refutes):
    world = script.World("certain", "uniform", 0.05, 1_000)
    pair = script.Pair(world, "uniform", 0.053, "nearly equal")
    found = script.simulate_change(pair, 100, replicates=300)
    assert math.isclose(found.truth, -0.003, abs_tol=1e-4)
    assert not refutes(found.covered, found.stated, 0.93), found
