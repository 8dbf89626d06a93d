"""Tests of a mean loss against a limit: by hand, against scipy, and against slow versions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from shrinkproof.errors import UsageError
from shrinkproof.randomness import stream
from shrinkproof.statistics import (
    betting_p,
    binomial_p,
    hoeffding_bentkus_p,
    independent_units,
    risk_test,
    units_needed,
)
from shrinkproof.statistics.planning import SURE, loss_ranks, units_for_all

LIMITS = st.floats(0.001, 0.999)
COUNTS = st.integers(1, 60)


def outcomes(failures, count):
    return np.arange(count) < failures


def changes(lost, gained, count):
    return np.repeat([1, -1, 0], [lost, gained, count - lost - gained])


def hoeffding_bentkus_slowly(total, count, limit):
    """Return the p-value from its definition, in exact fractions but for the exponential."""
    mean, chance = Fraction(total) / count, Fraction(limit)
    tail = sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
        for k in range(min(count, math.ceil(total)) + 1)
    )
    entropy = 0.0
    if mean < chance:
        for seen, expected in ((mean, chance), (1 - mean, 1 - chance)):
            if seen:
                entropy += float(seen) * math.log(seen / expected)
    return min(math.exp(-count * entropy), math.e * float(tail), 1.0)


def capital_slowly(values, limit, error):
    """Return 1 / largest capital of the bettor, one unit after another."""
    count, capital, largest = len(values), 1.0, 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    for number, value in enumerate(values, 1):
        bet = math.sqrt(2 * math.log(1 / error) / (count * variance))
        if limit < 1:
            bet = min(bet, 0.75 / (1 - limit))
        capital *= 1 - bet * (value - limit)
        largest = max(largest, capital)
        total += value
        squares += (value - total / (number + 1)) ** 2
        variance = squares / (number + 1)
    return 1 / largest


class TestBinomial:
    def test_no_failure_has_the_probability_that_every_unit_is_lucky(self):
        assert binomial_p(0, 59, 0.05) == pytest.approx(0.95**59)
        assert binomial_p(0, 58, 0.05) > 0.05 >= binomial_p(0, 59, 0.05)

    def test_it_counts_all_outcomes_with_so_few_failures(self):
        assert binomial_p(1, 3, 0.5) == pytest.approx(1 / 8 + 3 / 8)

    @given(count=COUNTS, limit=LIMITS, share=st.floats(0, 1))
    def test_it_is_the_one_sided_test_of_scipy(self, count, limit, share):
        failures = round(share * count)
        expected = binomtest(failures, count, limit, alternative="less").pvalue
        assert binomial_p(failures, count, limit) == pytest.approx(expected, rel=1e-9, abs=1e-300)

    def test_limits_of_nothing_and_everything(self):
        assert binomial_p(0, 10, 0.0) == 1
        assert binomial_p(9, 10, 1.0) == 0
        assert binomial_p(10, 10, 1.0) == 1

    @pytest.mark.parametrize("bad", [(0, 0, 0.1), (3, 2, 0.1), (-1, 2, 0.1), (1, 2, 1.1)])
    def test_impossible_counts_are_refused(self, bad):
        with pytest.raises(UsageError, match="binomial test"):
            binomial_p(*bad)


class TestHoeffdingBentkus:
    @given(count=COUNTS, limit=LIMITS, share=st.fractions(0, 1, max_denominator=75))
    def test_it_follows_its_definition(self, count, limit, share):
        total = share * count
        found = hoeffding_bentkus_p(float(share), count, limit)
        expected = hoeffding_bentkus_slowly(total, count, limit)
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-300)

    def test_no_loss_gives_the_exact_probability(self):
        assert hoeffding_bentkus_p(0, 50, 0.1) == pytest.approx(0.9**50)

    def test_rounding_errors_do_not_lift_a_whole_sum(self):
        assert 0.07 * 100 > 7
        expected = hoeffding_bentkus_slowly(Fraction(7), 100, 0.12)
        assert hoeffding_bentkus_p(0.07, 100, 0.12) == pytest.approx(expected, rel=1e-9)

    @given(count=COUNTS, limit=LIMITS, share=st.floats(0, 1))
    def test_it_is_never_below_the_exact_test_of_right_and_wrong(self, count, limit, share):
        failures = round(share * count)
        p = hoeffding_bentkus_p(failures / count, count, limit)
        assert p >= binomial_p(failures, count, limit) - 1e-12

    def test_limits_of_nothing_and_everything(self):
        assert hoeffding_bentkus_p(0.0, 10, 0.0) == 1
        assert hoeffding_bentkus_p(0.9, 10, 1.0) == 0
        assert hoeffding_bentkus_p(1.0, 10, 1.0) == 1

    @pytest.mark.parametrize(
        "bad", [(0.1, 0, 0.1), (1.1, 5, 0.1), (0.1, 5, -0.1), (math.nan, 5, 1)]
    )
    def test_impossible_means_are_refused(self, bad):
        with pytest.raises(UsageError, match="hoeffding-bentkus test"):
            hoeffding_bentkus_p(*bad)


class TestBetting:
    @settings(deadline=None)
    @given(
        values=st.lists(st.floats(0, 1), min_size=1, max_size=60),
        limit=LIMITS,
        error=st.sampled_from([0.05, 0.01]),
    )
    def test_it_is_the_capital_of_one_bet_after_another(self, values, limit, error):
        found = betting_p(np.array(values), limit, error=error)
        assert found == pytest.approx(capital_slowly(values, limit, error), rel=1e-9)

    def test_the_first_bet_by_hand(self):
        bet = math.sqrt(2 * math.log(20) / 0.25)
        assert bet > 0.75 / 0.5
        assert betting_p(np.array([0.0]), 0.5) == pytest.approx(1 / (1 + 0.75 / 0.5 * 0.5))
        assert betting_p(np.array([1.0]), 0.5) == 1

    def test_what_was_won_before_a_bad_unit_does_not_depend_on_it(self):
        values = np.full(40, 0.3)
        worse = [betting_p(np.append(values, last), 0.5) for last in (0.9, 1.0)]
        longer = betting_p(np.append(values, 0.3), 0.5)
        assert worse[0] == worse[1] > longer

    @pytest.mark.parametrize("limit", [0.0, 0.2, 0.5, 0.9, 1.0])
    def test_worlds_at_the_limit_are_certified_as_rarely_as_stated(self, limit):
        # All 3^n samples of a loss of three values with mean at the limit, with their probability.
        low, high = max(0.0, limit - 0.2), min(1.0, limit + 0.1)
        share = 0.0 if high == low else (limit - low) / (high - low)
        support = {low: 1 - share, high: share} if low < limit < high else {limit: 1.0}
        chance = dict.fromkeys([0.01, 0.05, 0.2, 0.5], 0.0)
        for sample in itertools.product(support, repeat=9):
            p = betting_p(np.array(sample), limit)
            weight = math.prod(support[value] for value in sample)
            for level in chance:
                chance[level] += weight * (p <= level)
        assert all(found <= level + 1e-12 for level, found in chance.items())

    def test_small_spreads_are_used(self):
        values = np.full(200, 0.5)
        assert betting_p(values, 0.52) < 0.1 < hoeffding_bentkus_p(0.5, 200, 0.52)

    def test_values_out_of_bounds_are_refused(self):
        with pytest.raises(UsageError, match=r"between 0 and 1, got 1\.5"):
            betting_p(np.array([0.2, 1.5]), 0.3)
        with pytest.raises(UsageError, match="error must be between 0 and 1"):
            betting_p(np.array([0.2]), 0.3, error=0)


class TestRiskTest:
    def test_right_and_wrong_have_the_exact_test_and_bound(self):
        found = risk_test(outcomes(3, 200), 0.05)
        assert found.p == pytest.approx(binom.cdf(3, 200, 0.05))
        assert (found.method, found.count, found.risk) == ("binomial", 200, 0.015)
        interval = binomtest(3, 200).proportion_ci(0.90, method="exact")
        assert found.upper == pytest.approx(interval.high, abs=1e-9)

    def test_the_method_goes_by_type_and_bounds_never_by_the_losses_seen(self):
        zeros = np.zeros(50)
        assert risk_test(zeros, 0.1).method == "betting"
        assert risk_test(zeros.astype(int), 0.1).method == "binomial"
        assert risk_test(zeros, 0.1, method="binomial").method == "binomial"
        assert risk_test(zeros.astype(int), 0.1, low=-1).method == "betting"

    @pytest.mark.parametrize("method", ["binomial", "hoeffding-bentkus", "betting"])
    @pytest.mark.parametrize("failures", [0, 1, 30, 59, 60])
    def test_every_limit_above_the_upper_bound_is_certified_and_none_below(self, method, failures):
        losses = outcomes(failures, 60)
        upper = risk_test(losses, 0.5, method=method).upper
        assert failures / 60 <= upper <= 1
        if upper < 1:
            assert risk_test(losses, upper + 1e-9, method=method).p <= 0.05
            assert risk_test(losses, upper - 1e-9, method=method).p > 0.05
        elif failures == 60:
            assert risk_test(losses, 1.0, method=method).p == 1

    @settings(deadline=None, max_examples=50)
    @given(
        values=st.lists(st.floats(-1, 1), min_size=1, max_size=40),
        limits=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
        method=st.sampled_from(["hoeffding-bentkus", "betting"]),
    )
    def test_a_larger_limit_is_never_harder(self, values, limits, method):
        losses = np.array(values)
        small, large = (
            risk_test(losses, limit, low=-1, high=1, method=method) for limit in sorted(limits)
        )
        assert small.p >= large.p - 1e-12
        assert small.upper == large.upper

    def test_bounds_are_scaled_to_zero_and_one(self):
        losses = changes(3, 5, 400)
        found = risk_test(losses, 0.02, low=-1, high=1)
        shuffled = losses[stream("risk test", 400).permutation(400)]
        assert found.p == betting_p((shuffled + 1) / 2, 0.51)
        assert found.risk == pytest.approx(-2 / 400)
        assert found.risk < found.upper < 0.02

    def test_sorted_losses_are_shuffled_before_betting(self):
        # Best first: a bettor who sees them in this order is rich before the first loss.
        losses = np.sort(np.random.default_rng(0).random(400))
        assert betting_p(losses, 0.5) < 1e-6
        assert risk_test(losses, losses.mean(), method="betting").p > 0.05

    @pytest.mark.parametrize("method", ["binomial", "hoeffding-bentkus", "betting"])
    def test_risk_zero_and_one(self, method):
        assert risk_test(outcomes(0, 100), 0.1, method=method).p < 0.05
        assert risk_test(outcomes(0, 100), 0.0, method=method).p == 1
        worst = risk_test(outcomes(100, 100), 1.0, method=method)
        assert (worst.p, worst.upper, worst.risk) == (1, 1, 1)

    @pytest.mark.parametrize("method", ["binomial", "hoeffding-bentkus", "betting"])
    def test_one_unit_certifies_next_to_nothing(self, method):
        found = risk_test(outcomes(0, 1), 0.5, method=method)
        assert found.p >= 0.5 - 1e-12
        assert found.upper >= 0.9

    def test_what_is_no_set_of_bounded_losses_is_refused(self):
        with pytest.raises(UsageError, match="at least 1 unit"):
            risk_test(np.zeros(0), 0.1)
        with pytest.raises(UsageError, match="between 0 and 1, got nan"):
            risk_test(np.array([0.1, math.nan]), 0.1)
        with pytest.raises(UsageError, match="between 0 and 1, got -1"):
            risk_test(np.array([0.1, -1]), 0.1)
        with pytest.raises(UsageError, match="limit must be between -1 and 1, got 2"):
            risk_test(np.zeros(3), 2, low=-1)
        with pytest.raises(UsageError, match="right or wrong"):
            risk_test(np.array([0.5]), 0.1, method="binomial")
        with pytest.raises(UsageError, match="low must be below high"):
            risk_test(np.zeros(3), 0, low=0, high=0)
        with pytest.raises(UsageError, match="method must be auto, binomial"):
            risk_test(np.zeros(3), 0, method="bayes")


class TestIndependentUnits:
    def test_a_group_has_the_mean_loss_of_its_images(self):
        losses = np.array([True, False, True, True, False, False])
        groups = np.array(["b", "b", "a", "a", "a", "c"])
        np.testing.assert_allclose(independent_units(losses, groups), [2 / 3, 1 / 2, 0])

    def test_images_without_groups_keep_their_type(self):
        losses = outcomes(2, 5)
        assert independent_units(losses, None).dtype == bool
        assert risk_test(independent_units(losses, None), 0.5).method == "binomial"
        assert risk_test(independent_units(losses, np.arange(5)), 0.5).method == "betting"

    def test_a_large_group_counts_as_much_as_a_small_one(self):
        losses = np.repeat([1.0, 0.0], [90, 10])
        groups = np.repeat([0, 1], [90, 10])
        assert independent_units(losses, groups).mean() == 0.5

    def test_a_group_for_each_image_is_demanded(self):
        with pytest.raises(UsageError, match=r"one value per image \(3\), got 2"):
            independent_units(np.zeros(3), np.zeros(2))


class TestUnitsNeeded:
    def test_a_model_without_errors_needs_the_rule_of_three(self):
        assert units_needed(0, 0.05) == 59
        assert units_needed(0, 0.01) == 299

    @pytest.mark.parametrize(("risk", "limit"), [(0.01, 0.03), (0.10, 0.15), (0.4, 0.6)])
    def test_no_smaller_count_has_the_power(self, risk, limit):
        def power(count):
            k = int((binom.cdf(np.arange(count + 1), count, limit) <= 0.05).sum()) - 1
            return binom.cdf(k, count, risk)

        needed = units_needed(risk, limit)
        assert power(needed) >= 0.8
        assert all(power(count) < 0.8 for count in range(1, needed))

    def test_a_smaller_error_or_gap_and_more_power_need_more(self):
        start = units_needed(0.1, 0.15)
        assert units_needed(0.1, 0.15, error=0.0025) > start
        assert units_needed(0.1, 0.15, power=0.95) > start
        assert units_needed(0.12, 0.15) > start
        assert units_needed(0.1, 0.15, sd=0.3) > units_needed(0.1, 0.15, sd=0.1)

    def test_a_small_spread_needs_fewer_units_by_betting(self):
        arguments = {"sd": 0.17, "low": -1, "high": 1}
        betting = units_needed(0.0, 0.02, **arguments)
        assert betting < units_needed(0, 0.02, **arguments, method="hoeffding-bentkus") / 10

    def test_a_risk_that_is_not_below_the_limit_is_never_certified(self):
        assert units_needed(0.2, 0.2) is None
        assert units_needed(0.3, 0.2) is None
        assert units_needed(0.2 - 1e-7, 0.2) is None

    @pytest.mark.parametrize("method", ["binomial", "hoeffding-bentkus", "betting"])
    def test_the_extremes_have_a_count(self, method):
        assert units_needed(0, 1, method=method, sd=0.0) >= 1
        assert units_needed(0.999, 1, method=method, sd=0.01) >= 1

    def test_impossible_plans_are_refused(self):
        with pytest.raises(UsageError, match="limit must be between 0 and 1"):
            units_needed(0.1, 1.2)
        with pytest.raises(UsageError, match="give sd"):
            units_needed(0.0, 0.1, low=-1)
        with pytest.raises(UsageError, match="half the range"):
            units_needed(0.1, 0.2, sd=0.7)
        with pytest.raises(UsageError, match="method must be"):
            units_needed(0.1, 0.2, method="bayes")


class TestUnitsForAll:
    def power(self, count, independent):
        """How often all of so many independent tests of 15 % below 20 % succeed."""
        wrong = np.random.default_rng(3).binomial(count, 0.15, (4000, independent))
        p = np.array([binomial_p(int(n), count, 0.2) for n in range(count + 1)])
        return float((p[wrong] <= 0.05).all(axis=1).mean())

    @pytest.mark.parametrize("shared", [False, True])
    def test_all_tests_together_have_the_power(self, shared):
        draws = np.random.default_rng(1)
        losses = [draws.random(1000) < 0.15 for _ in range(10)]
        ranks = loss_ranks(losses[:1] * 10 if shared else losses, "")
        alone, sure = units_needed(0.15, 0.2), units_needed(0.15, 0.2, power=SURE)
        needed = units_for_all(np.full(10, alone), np.full(10, sure), ranks)
        if shared:
            assert needed == alone
        else:
            assert self.power(alone, 10) < 0.2
        assert self.power(needed, 1 if shared else 10) == pytest.approx(0.8, abs=0.04)

    def test_tests_that_are_sure_anyway_cost_nothing(self):
        draws = np.random.default_rng(1)
        ranks = loss_ranks([draws.random(500) < 0.1, np.zeros(500)], "cat")
        assert units_for_all(np.array([5000, 20]), np.array([9000, 20]), ranks) == 5000


def test_nobody_is_certified_against_the_measured_risk():
    """A bettor who is rich after the first 50 units and poor after all has p = 1."""
    order = stream("risk test", 400).permutation(400)
    losses = np.zeros(400)
    losses[order[60:]] = 0.5
    assert betting_p(losses[order], 0.4) < 0.05
    found = risk_test(losses, 0.4, method="betting")
    assert (found.p, found.risk) == (1.0, pytest.approx(0.425))
    assert found.upper > found.risk
