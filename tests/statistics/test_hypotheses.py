import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from shrinkproof.errors import UsageError
from shrinkproof.statistics import holm, mcnemar
from shrinkproof.statistics.hypotheses import sign_flip_p


def outcomes(only_a, only_b, both=5, none=5):
    a = np.repeat([1, 0, 1, 0], [only_a, only_b, both, none])
    b = np.repeat([0, 1, 1, 0], [only_a, only_b, both, none])
    return a, b


class TestMcNemar:
    def test_only_discordant_images_count(self):
        found = mcnemar(*outcomes(1, 5))
        assert found.p == pytest.approx(2 * (1 + 6) / 2**6)
        assert (found.count, found.method) == (6, "mcnemar-exact")
        assert found.value == pytest.approx(-4 / 16)
        assert mcnemar(*outcomes(1, 5, both=900)).p == found.p

    def test_mid_p_leaves_out_half_of_the_observed_outcome_at_each_end(self):
        found = mcnemar(*outcomes(1, 5), is_mid_p=True)
        assert found.p == pytest.approx((1 + 1 + 6) / 2**6)
        assert found.method == "mcnemar-mid-p"
        assert mcnemar(*outcomes(3, 3), is_mid_p=True).p == pytest.approx(1)

    def test_no_discordant_image_gives_one_with_a_reason(self):
        found = mcnemar(*outcomes(0, 0))
        assert (found.p, found.count) == (1, 0)
        assert found.reason == "no image speaks for either model"

    def test_groups_are_swapped_whole(self):
        a = np.ones(30, dtype=bool)
        b = np.zeros(30, dtype=bool)
        found = mcnemar(a, b, groups=np.arange(30) // 10)
        assert found.p == pytest.approx(2 / 2**3)
        assert (found.count, found.method) == (3, "sign-flip-exact")

    def test_groups_of_one_image_equal_independent_images(self):
        a, b = outcomes(4, 11)
        grouped = mcnemar(a, b, groups=np.arange(len(a)))
        assert grouped.p == pytest.approx(mcnemar(a, b).p, rel=1e-12)

    def test_groups_in_balance_give_one_with_a_reason(self):
        found = mcnemar(*outcomes(1, 1, 0, 0), groups=np.zeros(2))
        assert (found.p, found.reason) == (1, "no group speaks for either model")

    def test_no_images_have_no_p_value(self):
        empty = np.zeros(0, dtype=bool)
        found = mcnemar(empty, empty)
        assert found.p is None
        assert math.isnan(found.value)
        assert found.reason == "there are no images"

    def test_input_that_is_no_pair_of_outcomes_is_refused(self):
        with pytest.raises(UsageError, match=r"got \(3,\) and \(4,\)"):
            mcnemar(np.zeros(3), np.zeros(4))
        with pytest.raises(UsageError, match="0 or 1"):
            mcnemar(np.full(3, 0.5), np.zeros(3))
        with pytest.raises(UsageError, match=r"one value per image \(3\), got 2"):
            mcnemar(np.ones(3), np.zeros(3), groups=np.zeros(2))

    def test_equal_models_are_refuted_at_most_as_often_as_stated(self):
        draws = np.random.default_rng(0)
        a, b = (draws.random((2_000, 200)) < 0.9 for _ in range(2))
        p = np.array([mcnemar(*pair).p for pair in zip(a, b, strict=True)])
        for level in (0.01, 0.05, 0.2):
            assert (p <= level).mean() <= level + 3 * math.sqrt(level / 2_000)

    def test_mid_p_values_of_equal_models_are_nearly_uniform(self):
        draws = np.random.default_rng(1)
        a, b = (draws.random((1_000, 600)) < 0.7 for _ in range(2))
        p = np.sort([mcnemar(*pair, is_mid_p=True).p for pair in zip(a, b, strict=True)])
        assert np.abs(p - np.arange(1_000) / 1_000).max() < 0.06

    def test_correlated_groups_are_refuted_too_often_only_without_groups(self):
        draws = np.random.default_rng(2)
        groups = np.arange(400) // 10
        with_groups, without = [], []
        for _ in range(300):
            favorite = np.repeat(draws.random(40) < 0.5, 10)
            is_discordant = draws.random(400) < 0.3
            a = np.where(is_discordant, favorite, 1)
            b = np.where(is_discordant, ~favorite, 1)
            without.append(mcnemar(a, b).p <= 0.05)
            with_groups.append(mcnemar(a, b, groups=groups).p <= 0.05)
        assert np.mean(without) > 0.2
        assert np.mean(with_groups) <= 0.05 + 3 * math.sqrt(0.05 / 300)

    def test_power_agrees_with_the_binomial(self):
        draws = np.random.default_rng(3)
        found = []
        for _ in range(400):
            fate = draws.random(1_000)
            found.append(mcnemar(fate > 0.04, (fate < 0.04) | (fate > 0.06)).p <= 0.05)
        expected = sum(
            binom.pmf(count, 1_000, 0.06) * binom.pmf(ones, count, 2 / 3)
            for count in range(30, 91)
            for ones in range(count + 1)
            if 2 * binom.cdf(min(ones, count - ones), count, 0.5) <= 0.05
        )
        assert np.mean(found) == pytest.approx(expected, abs=0.08)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.booleans())
def test_sign_flips_agree_with_enumeration(sizes, is_mid_p):
    sums = [
        sum(sign * size for sign, size in zip(signs, sizes, strict=True))
        for signs in itertools.product([-1, 1], repeat=len(sizes))
    ]
    total = sums[len(sums) // 3]
    more = sum(abs(other) > abs(total) for other in sums)
    same = sum(abs(other) == abs(total) for other in sums)
    expected = (more + same * (0.5 if is_mid_p else 1)) / len(sums)
    found = sign_flip_p(np.array(sizes), total, is_mid_p=is_mid_p)
    assert found == pytest.approx(expected, abs=1e-12)


class TestHolm:
    def test_factors_fall_from_the_size_of_the_family_to_one(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_values_end_at_one(self):
        assert holm([0.9, 0.6]).tolist() == [1, 1]

    def test_an_empty_family_is_empty(self):
        assert not len(holm([]))

    @pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
    def test_values_that_are_no_probabilities_are_refused(self, bad):
        with pytest.raises(UsageError, match="between 0 and 1"):
            holm([0.5, bad])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_adjusted_values_lie_between_raw_and_bonferroni(self, raw):
        raw = np.array(raw)
        adjusted = holm(raw)
        assert (adjusted >= raw).all()
        assert (adjusted <= np.minimum(1, len(raw) * raw)).all()
        order = np.argsort(raw, kind="stable")
        assert (np.diff(adjusted[order]) >= 0).all()

    def test_any_false_rejection_is_as_rare_as_stated(self):
        draws = np.random.default_rng(4)
        rejected = [holm(draws.random(20)).min() <= 0.05 for _ in range(2_000)]
        assert np.mean(rejected) <= 0.05 + 3 * math.sqrt(0.05 / 2_000)
