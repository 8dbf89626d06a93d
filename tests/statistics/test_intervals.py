import math

import numpy as np
import pytest
from scipy.stats import binom

from shrinkproof.errors import UsageError
from shrinkproof.statistics import (
    Terms,
    bootstrap_weights,
    clopper_pearson,
    difference,
    estimate,
    interval,
    intervals,
    paired_interval,
    replicates,
)


def mean_terms(values, *, is_binary=False):
    return Terms(values=np.asarray(values, dtype=np.float64)[:, None], is_binary=is_binary)


def binary(ones, count):
    return mean_terms(np.arange(count) < ones, is_binary=True)


def weights(count, **more):
    return bootstrap_weights(count, seed=0, **{"replicates": 400, **more})


class TestTerms:
    def test_estimates_follow_the_three_definitions(self):
        values = np.array([[1.0, -2.0], [3.0, 0.0]])
        assert estimate(mean_terms([1, 2, 6])) == 3
        assert estimate(Terms(values=values, kind="absolute-sum")) == 3
        assert estimate(Terms(values=np.abs(values), kind="mean-of-ratios")) == 2

    def test_no_images_and_a_zero_denominator_are_undefined(self):
        assert math.isnan(estimate(mean_terms([])))
        assert math.isnan(estimate(Terms(values=np.array([[1.0, 0.0]]), kind="mean-of-ratios")))

    @pytest.mark.parametrize(
        ("values", "kind", "is_binary", "message"),
        [
            (np.zeros(3), "mean", False, r"must be \(N, K\)"),
            (np.zeros((3, 1), dtype=np.int64), "mean", False, "floats"),
            (np.zeros((3, 2)), "mean", False, "one column, got 2"),
            (np.zeros((3, 3)), "mean-of-ratios", False, "denominators, got 3"),
            (np.full((3, 1), np.nan), "mean", False, "finite"),
            (np.full((3, 1), 2.0), "mean", True, "0 or 1"),
            (np.zeros((3, 1)), "median", False, "got 'median'"),
        ],
    )
    def test_malformed_terms_are_refused(self, values, kind, is_binary, message):
        with pytest.raises(UsageError, match=message):
            Terms(values=values, kind=kind, is_binary=is_binary)


class TestReplicates:
    def test_each_is_the_metric_of_the_repeated_images(self):
        draws = np.random.default_rng(0)
        terms = Terms(values=draws.normal(size=(40, 3)), kind="absolute-sum")
        matrix = weights(40, replicates=5)
        for row, value in zip(matrix, replicates(terms, matrix), strict=True):
            repeated = np.repeat(terms.values, row.astype(int), axis=0)
            expected = np.abs(repeated.mean(axis=0)).sum()
            assert value == pytest.approx(expected, abs=1e-6)  # float32 product

    def test_those_without_any_of_the_images_are_left_out(self):
        matrix = np.array([[0, 3], [1, 0]], dtype=np.float32)
        found = replicates(mean_terms([0.5]), matrix[:, :1])
        assert found.tolist() == [0.5]

    def test_another_number_of_images_is_refused(self):
        with pytest.raises(UsageError, match="got 40 and 39"):
            replicates(mean_terms(np.arange(39)), weights(40))


class TestMeans:
    def test_percentile_interval_agrees_with_the_normal_one_for_many_images(self):
        values = np.random.default_rng(1).normal(size=5_000)
        found = interval(mean_terms(values), weights(5_000, replicates=1_000))
        half = 1.96 * values.std() / math.sqrt(5_000)
        assert found.method == "bootstrap-percentile"
        assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
        assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)

    def test_a_higher_level_is_wider(self):
        terms, matrix = binary(300, 400), weights(400)
        narrow, wide = interval(terms, matrix, 0.8), interval(terms, matrix, 0.99)
        assert wide.low < narrow.low < narrow.high < wide.high

    @pytest.mark.parametrize("ones", [0, 1, 9, 191, 199, 200])
    def test_counts_near_an_end_are_exact(self, ones):
        found = interval(binary(ones, 200), weights(200))
        assert found.method == "clopper-pearson"
        assert (found.low, found.high) == clopper_pearson(ones, 200)

    def test_perfect_accuracy_on_few_images_follows_the_rule_of_three(self):
        found = interval(binary(10, 10), weights(10))
        assert found.low == pytest.approx(0.025 ** (1 / 10))
        assert found.high == 1

    def test_counts_in_the_middle_are_resampled(self):
        assert interval(binary(10, 200), weights(200)).method == "bootstrap-percentile"

    def test_nothing_is_stated_for_no_images(self):
        assert interval(binary(0, 0), weights(0)).reason == "there are no images"

    def test_nothing_is_stated_for_few_groups(self):
        groups = np.arange(400) // 100
        matrix = weights(400, groups=groups)
        found = interval(binary(300, 400), matrix, group_count=4)
        assert not found.is_stated
        assert found.reason == "an interval needs at least 30 groups, got 4"

    def test_nothing_is_stated_for_perfect_accuracy_in_groups(self):
        groups = np.arange(400) // 10
        matrix = weights(400, groups=groups)
        found = interval(binary(400, 400), matrix, group_count=40)
        assert "same value" in found.reason

    def test_groups_widen_the_interval(self):
        values = np.repeat(np.arange(100) % 2, 10)
        groups = np.arange(1_000) // 10
        alone = interval(mean_terms(values, is_binary=True), weights(1_000))
        grouped = interval(
            mean_terms(values, is_binary=True), weights(1_000, groups=groups), group_count=100
        )
        assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)

    def test_nothing_is_stated_where_a_few_images_carry_the_spread(self):
        values = np.zeros(500)
        values[:3] = 0.75
        found = interval(mean_terms(values), weights(500))
        assert found.reason == "the spread rests on about 3 images; an interval needs at least 10"

    def test_nothing_is_stated_where_all_images_are_equal(self):
        assert "same value" in interval(mean_terms(np.full(50, 0.3)), weights(50)).reason

    def test_nothing_is_stated_where_all_groups_are_equal(self):
        values = np.tile([0.0, 1.0], 100)
        matrix = weights(200, groups=np.arange(200) // 2)
        found = interval(mean_terms(values, is_binary=True), matrix, group_count=100)
        assert found.reason == "every resampled data set has the same value"

    def test_nothing_is_stated_where_resampling_removes_the_denominator(self):
        values = np.zeros((60, 2))
        values[:, 0] = np.arange(60) % 2
        values[0, 1] = 1
        found = interval(Terms(values=values, kind="mean-of-ratios"), weights(60))
        assert "undefined" in found.reason or "rests on" in found.reason
        values[:, 1] = 0
        assert not interval(Terms(values=values, kind="mean-of-ratios"), weights(60)).is_stated

    def test_no_replicates_give_no_interval(self):
        empty = np.zeros((5, 100), dtype=np.float32)
        assert "undefined" in interval(binary(50, 100), empty).reason

    @pytest.mark.parametrize("level", [0.0, 1.0, 95])
    def test_a_level_outside_0_and_1_is_refused(self, level):
        with pytest.raises(UsageError, match=r"write 0\.95 for 95 %"):
            interval(binary(1, 2), weights(2), level)

    def test_several_metrics_at_once_equal_one_at_a_time(self):
        draws = np.random.default_rng(2)
        terms = {
            "mean": mean_terms(draws.random(500)),
            "exact": binary(0, 500),
            "bins": Terms(values=draws.normal(size=(500, 4)) / 4, kind="absolute-sum"),
        }
        matrix = weights(500)
        together = intervals(terms, matrix)
        assert list(together) == list(terms)
        for name, item in terms.items():
            alone = interval(item, matrix)
            assert together[name].method == alone.method
            # The order of summation inside a float32 product depends on its width.
            assert together[name].low == pytest.approx(alone.low, abs=1e-6)
            assert together[name].high == pytest.approx(alone.high, abs=1e-6)


class TestClopperPearson:
    @pytest.mark.parametrize(("successes", "count"), [(0, 5), (1, 5), (3, 40), (40, 40)])
    def test_ends_leave_the_tail_probabilities(self, successes, count):
        low, high = clopper_pearson(successes, count)
        if successes:
            assert binom.sf(successes - 1, count, low) == pytest.approx(0.025)
        else:
            assert low == 0
        if successes < count:
            assert binom.cdf(successes, count, high) == pytest.approx(0.025)
        else:
            assert high == 1

    @pytest.mark.parametrize(("successes", "count"), [(0, 0), (3, 2), (-1, 2)])
    def test_impossible_counts_are_refused(self, successes, count):
        with pytest.raises(UsageError, match=f"got {successes} of {count}"):
            clopper_pearson(successes, count)


class TestPairs:
    def test_pairing_is_narrower_than_two_intervals(self):
        draws = np.random.default_rng(3)
        a = draws.random(2_000) < 0.8
        b = np.where(draws.random(2_000) < 0.05, ~a, a)
        matrix = weights(2_000)
        found = paired_interval(
            mean_terms(a, is_binary=True), mean_terms(b, is_binary=True), matrix
        )
        alone = interval(mean_terms(a, is_binary=True), matrix)
        assert found.method == "bootstrap-percentile"
        assert found.low < a.mean() - b.mean() < found.high
        assert found.high - found.low < 0.7 * (alone.high - alone.low)

    def test_few_changed_images_have_an_exact_interval(self):
        a, b = np.ones(100), np.ones(100)
        b[:2] = 0
        found = paired_interval(
            mean_terms(a, is_binary=True), mean_terms(b, is_binary=True), weights(100)
        )
        low_only_a, high_only_a = clopper_pearson(2, 100, 0.975)
        assert found.method == "clopper-pearson-paired"
        assert found.low == low_only_a - clopper_pearson(0, 100, 0.975)[1]
        assert found.high == high_only_a

    def test_no_changed_image_leaves_what_cannot_be_ruled_out(self):
        terms = mean_terms(np.arange(100) % 2, is_binary=True)
        found = paired_interval(terms, terms, weights(100))
        assert found.low == -found.high
        assert found.high == pytest.approx(1 - 0.0125 ** (1 / 100))

    def test_equal_continuous_metrics_have_none(self):
        terms = mean_terms(np.random.default_rng(0).random(100) + 5)
        other = mean_terms(terms.values[:, 0] - 0.5)
        assert "same value" in paired_interval(terms, other, weights(100)).reason

    def test_a_mean_and_a_calibration_error_have_none(self):
        bins = Terms(values=np.zeros((100, 1)), kind="absolute-sum")
        with pytest.raises(UsageError, match="state no interval"):
            difference(bins, mean_terms(np.zeros(100)))

    def test_other_images_are_refused(self):
        with pytest.raises(UsageError, match="got 3 and 4 images"):
            difference(binary(1, 3), binary(1, 4))


class TestBinnedErrors:
    def bins(self, count=600, wrong=60, bins=3):
        values = np.zeros((count, bins))
        rows = np.arange(count)
        values[rows, rows % bins] = np.where(rows < wrong, 0.85, -0.15)
        return Terms(values=values, kind="absolute-sum")

    def test_the_interval_contains_the_estimate(self):
        terms = self.bins()
        found = interval(terms, weights(600))
        assert found.method == "l1-deviation"
        assert 0 <= found.low < estimate(terms) < found.high <= 1

    def test_few_images_per_bin_have_none(self):
        found = interval(self.bins(count=300, bins=16), weights(300))
        assert found.reason == "an interval needs at least 320 images, got 300"

    def test_few_groups_per_bin_have_none(self):
        matrix = weights(600, groups=np.arange(600) // 12)
        found = interval(self.bins(), matrix, group_count=50)
        assert found.reason == "an interval needs at least 60 groups, got 50"

    def test_errors_of_all_classes_have_none(self):
        draws = np.random.default_rng(8)
        gaps = draws.dirichlet(np.ones(3), 600) - np.eye(3)[draws.integers(0, 3, 600)]
        terms = Terms(values=gaps.astype(np.float32), kind="absolute-sum")
        for item in (terms, difference(terms, terms)):
            found = interval(item, weights(600))
            assert found.reason == "no interval for errors of all classes has a tested coverage"

    @pytest.mark.parametrize("wrong", [0, 9, 595])
    def test_few_errors_or_few_hits_have_none(self, wrong):
        found = interval(self.bins(wrong=wrong), weights(600))
        assert f"got {600 - wrong} right and {wrong} wrong" in found.reason
