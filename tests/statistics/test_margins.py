import itertools
import math
from bisect import bisect_left

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from shrinkproof.errors import UsageError
from shrinkproof.statistics import equivalence, images_needed, mcnemar, noninferiority
from shrinkproof.statistics.margins import MAXIMUM_EXACT, _score


def changes(gained, lost, count):
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, count - gained - lost])


class TestNoninferiorityOfAccuracy:
    def test_the_score_statistic_uses_the_likeliest_rates_with_the_margin(self):
        gained, lost, count, margin = 30, 45, 500, 0.05
        rate = np.linspace(1e-6, 0.4, 400_001)
        log = (
            gained * np.log(rate)
            + lost * np.log(rate + margin)
            + (count - gained - lost) * np.log(1 - margin - 2 * rate)
        )
        best = rate[log.argmax()]
        spread = math.sqrt(count * (2 * best + margin - margin**2))
        expected = (gained - lost + count * margin) / spread
        found = _score(np.array(gained), np.array(lost), count, margin)
        assert found == pytest.approx(expected, rel=1e-4)
        p = 0.5 * math.erfc(expected / math.sqrt(2))
        test = noninferiority(changes(gained, lost, count), margin)
        assert test.p == pytest.approx(p, rel=1e-2)
        assert (test.method, test.count) == ("score-paired", 500)
        assert test.value == pytest.approx(-0.03)

    def test_no_changed_image_has_the_probability_that_none_is_seen(self):
        found = noninferiority(np.zeros(100), 0.02)
        assert found.method == "score-paired-exact"
        assert found.p == pytest.approx(0.98**100, abs=2e-4)

    def test_exact_and_asymptotic_version_meet(self):
        few = noninferiority(changes(MAXIMUM_EXACT // 2, MAXIMUM_EXACT // 2, 2_000), 0.01)
        more = noninferiority(changes(MAXIMUM_EXACT // 2, MAXIMUM_EXACT // 2 + 1, 2_000), 0.01)
        assert few.method != more.method
        assert few.p == pytest.approx(more.p, abs=0.01)

    def test_more_lost_images_never_help(self):
        p = [noninferiority(changes(5, lost, 400), 0.03).p for lost in range(60)]
        assert all(a <= b + 1e-3 for a, b in itertools.pairwise(p))

    def test_a_margin_of_one_cannot_be_lost(self):
        assert noninferiority(-np.ones(50), 1.5).p == 0

    @pytest.mark.parametrize("count", [40, 100, pytest.param(400, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("margin", [0.01, 0.05])
    def test_the_exact_size_is_at_most_the_level(self, count, margin):
        # Probability of p <= 0.05 at the border of the null hypothesis, by enumeration.
        rates = [0.0, 0.002, 0.01, 0.03]
        sizes = np.zeros(len(rates))
        for gained in range(int(0.03 * count + 6 * math.sqrt(0.03 * count)) + 2):
            # More lost images never help, so those with a small p-value are the fewest.
            rejected = bisect_left(
                range(count - gained + 1),
                0.05,
                key=lambda lost, gained=gained: (
                    noninferiority(changes(gained, lost, count), margin).p
                ),
            )
            lost = np.arange(rejected)
            for k, rate in enumerate(rates):
                chance = (rate + margin) / (1 - rate)
                first = binom.pmf(gained, count, rate)
                sizes[k] += first * binom.pmf(lost, count - gained, chance).sum()
        assert (sizes <= 0.05).all(), sizes

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [1_000, 10_000])
    @pytest.mark.parametrize("margin", [0.005, 0.02])
    @pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
    def test_the_size_stays_within_the_level_for_many_images(self, count, margin, rate):
        draws = np.random.default_rng(0)
        drawn = draws.multinomial(count, [rate, rate + margin, 1 - margin - 2 * rate], size=2_000)
        outcomes, often = np.unique(drawn, axis=0, return_counts=True)
        p = np.array([noninferiority(changes(a, b, count), margin).p for a, b, _ in outcomes])
        assert often[p <= 0.05].sum() / 2_000 <= 0.05 + 3 * math.sqrt(0.05 / 2_000)

    def test_equal_models_are_found_as_often_as_the_plan_says(self):
        draws = np.random.default_rng(1)
        sd = math.sqrt(0.06)
        count = images_needed(sd, 0.02, level=0.9, power=0.8)
        drawn = draws.multinomial(count, [0.03, 0.03, 0.94], size=500)
        p = np.array([noninferiority(changes(a, b, count), 0.02).p for a, b, _ in drawn])
        assert (p <= 0.05).mean() == pytest.approx(0.8, abs=0.06)


class TestNoninferiorityOfMeans:
    def test_it_is_the_one_sided_t_test(self):
        values = np.random.default_rng(2).normal(0.01, 0.2, 80)
        found = noninferiority(values, 0.05)
        expected = ttest_1samp(values, -0.05, alternative="greater").pvalue
        assert found.p == pytest.approx(expected, rel=1e-9)
        assert (found.method, found.count) == ("t-paired", 80)

    def test_groups_of_one_image_equal_independent_images(self):
        values = np.random.default_rng(3).normal(size=60)
        grouped = noninferiority(values, 0.1, groups=np.arange(60))
        assert grouped.p == pytest.approx(noninferiority(values, 0.1).p, rel=1e-12)
        assert grouped.method == "t-paired-grouped"

    def test_repeated_images_in_groups_add_nothing(self):
        values = np.random.default_rng(4).normal(size=60)
        groups = np.repeat(np.arange(60), 5)
        grouped = noninferiority(np.repeat(values, 5), 0.1, groups=groups)
        assert grouped.p == pytest.approx(noninferiority(values, 0.1).p, rel=1e-12)
        assert grouped.count == 60

    @pytest.mark.parametrize("is_grouped", [False, True])
    def test_the_size_is_the_level_and_p_is_uniform(self, is_grouped):
        draws = np.random.default_rng(5)
        groups = np.arange(300) // 5 if is_grouped else None
        p = []
        for _ in range(800):
            values = draws.normal(-0.1, 1, 300)
            if is_grouped:
                values += np.repeat(draws.normal(0, 1, 60), 5)
            p.append(noninferiority(values, 0.1, groups=groups).p)
        p = np.sort([one for one in p if one is not None])
        assert len(p) > 790
        assert (p <= 0.05).mean() <= 0.05 + 3 * math.sqrt(0.05 / 800)
        assert np.abs(p - np.arange(len(p)) / len(p)).max() < 0.06

    def test_grouped_accuracies_are_tested_by_groups(self):
        found = noninferiority(changes(40, 45, 600), 0.05, groups=np.arange(600) // 5)
        assert found.method == "t-paired-grouped"

    def test_what_too_few_carry_is_not_stated(self):
        few = noninferiority(np.linspace(0, 1, 20), 0.1)
        assert (few.p, few.reason) == (None, "the test needs at least 30 images, got 20")
        values = np.zeros(100)
        values[:3] = 0.7
        assert "rests on about 3 images" in noninferiority(values, 0.1).reason
        assert "same difference" in noninferiority(np.full(100, 0.3), 0.1).reason
        groups = np.arange(100) // 10
        assert "30 groups, got 10" in noninferiority(np.arange(100.0), 0.1, groups=groups).reason

    def test_no_images_have_no_p_value(self):
        assert noninferiority(np.zeros(0), 0.1).reason == "there are no images"
        assert equivalence(np.zeros(0), 0.1).p is None

    @pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
    def test_a_margin_that_is_not_positive_is_refused(self, margin):
        with pytest.raises(UsageError, match="margin must be positive"):
            noninferiority(np.zeros(50), margin)

    def test_values_that_are_not_finite_are_refused(self):
        with pytest.raises(UsageError, match="finite"):
            equivalence(np.array([0.0, math.nan]), 0.1)


class TestEquivalence:
    def test_the_worse_of_both_sides_counts(self):
        values = changes(60, 45, 1_000)
        both = equivalence(values, 0.03)
        assert both.p == max(noninferiority(values, 0.03).p, noninferiority(-values, 0.03).p)
        assert both.value == pytest.approx(0.015)

    def test_a_difference_may_be_significant_and_negligible(self):
        right = np.ones(20_000)
        other = np.where(np.arange(20_000) < 60, 0.0, 1.0)
        assert mcnemar(right, other).p < 1e-6
        assert equivalence(right - other, 0.01).p < 1e-6

    def test_few_images_show_neither(self):
        values = changes(3, 4, 100)
        assert equivalence(values, 0.01).p > 0.05

    def test_what_is_not_stated_keeps_its_reason(self):
        found = equivalence(np.full(50, 0.3), 0.5)
        assert found.p is None
        assert "same difference" in found.reason


class TestImagesNeeded:
    def test_it_follows_the_textbook(self):
        assert images_needed(1, 0.5) == math.ceil(((1.959964 + 0.841621) / 0.5) ** 2)
        assert images_needed(0, 0.1) == 1

    def test_half_the_margin_needs_four_times_as_many(self):
        ratio = images_needed(1, 0.01) / images_needed(1, 0.02)
        assert ratio == pytest.approx(4, rel=1e-3)

    @pytest.mark.parametrize(
        "bad", [{"sd": -1}, {"margin": 0}, {"level": 1}, {"power": 0}, {"sd": math.nan}]
    )
    def test_impossible_plans_are_refused(self, bad):
        with pytest.raises(UsageError, match="images needed"):
            images_needed(**{"sd": 1, "margin": 1, **bad})
