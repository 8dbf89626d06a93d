import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import UsageError
from shrinkproof.statistics import friedman, wilcoxon_holm, wilcoxon_signed_rank
from shrinkproof.statistics.ranks import mean_ranks

ABC = ("a", "b", "c")


class TestFriedman:
    def test_it_follows_the_formula_without_ties(self):
        values = np.array([[1.0, 2, 3], [1, 3, 2], [1, 2, 3], [2, 1, 3]])
        found = friedman(values, ABC, is_higher_better=False)
        # Rank sums 5, 8, 11: 12 / (4 * 3 * 4) * (25 + 64 + 121) - 3 * 4 * 4.
        assert found.chi2 == pytest.approx(4.5)
        assert found.p == pytest.approx(math.exp(-4.5 / 2))
        assert found.f == pytest.approx(3 * 4.5 / (8 - 4.5))
        assert found.names == ABC
        assert found.mean_ranks == (1.25, 2.0, 2.75)

    def test_ties_share_the_mean_of_their_ranks(self):
        assert mean_ranks(np.array([[3.0, 1, 3, 2]])).tolist() == [[3.5, 1, 3.5, 2]]

    def test_the_direction_turns_the_ranks(self):
        values = np.array([[1.0, 2, 3], [1, 2, 4]])
        assert friedman(values, ABC, is_higher_better=True).names == ("c", "b", "a")

    def test_full_agreement_has_the_probability_of_equal_orders(self):
        values = np.tile([1.0, 2, 3], (4, 1))
        found = friedman(values, ABC, is_higher_better=False)
        assert found.f is None
        assert found.f_p == pytest.approx((1 / 6) ** 3)

    def test_treatments_that_tie_everywhere_show_nothing(self):
        found = friedman(np.ones((5, 3)), ABC, is_higher_better=False)
        assert (found.chi2, found.p, found.f_p) == (0, 1, 1)
        assert found.cliques == (ABC,)

    def test_the_critical_difference_is_the_published_one(self):
        # Demsar 2006: 4 classifiers on 14 data sets, q = 2.569, critical difference 1.25.
        draws = np.random.default_rng(0)
        found = friedman(draws.random((14, 4)), "abcd", is_higher_better=True)
        assert found.critical_difference == pytest.approx(2.569 * math.sqrt(20 / 84), rel=2e-4)
        assert round(found.critical_difference, 2) == 1.25
        assert not found.is_low_power
        assert found.caution == ""

    def test_cliques_are_the_longest_runs_within_the_critical_difference(self):
        values = np.tile(np.arange(6.0), (12, 1))
        found = friedman(values, "abcdef", is_higher_better=False)
        assert 2 < found.critical_difference < 3
        assert found.cliques == (tuple("abc"), tuple("bcd"), tuple("cde"), tuple("def"))

    def test_far_treatments_form_no_clique(self):
        values = np.tile(np.arange(2.0), (20, 1))
        assert friedman(values, "ab", is_higher_better=False).cliques == ()

    def test_few_blocks_are_called_low_power(self):
        draws = np.random.default_rng(1)
        found = friedman(draws.random((6, 16)), "abcdefghijklmnop", is_higher_better=True)
        assert found.is_low_power
        assert "mean ranks must differ by 9.42 of at most 15" in found.caution
        hopeless = friedman(draws.random((2, 4)), "abcd", is_higher_better=True)
        assert "no two of 4 treatments can be told apart" in hopeless.caution

    def test_a_missing_cell_is_named(self):
        values = np.ones((2, 3))
        values[1, 2] = math.nan
        with pytest.raises(UsageError, match=r"no number for c in vgg \(1 missing\)"):
            friedman(values, ABC, is_higher_better=True, blocks=("resnet", "vgg"))

    @pytest.mark.parametrize(
        ("shape", "names", "blocks", "message"),
        [
            ((1, 3), ABC, (), "at least 2 blocks"),
            ((3, 1), ("a",), (), "at least 2 blocks and 2 treatments"),
            ((3, 3), ("a", "b", "b"), (), "one name, got 2"),
            ((3, 3), ABC, ("x",), "1 names"),
        ],
    )
    def test_tables_that_do_not_fit_are_refused(self, shape, names, blocks, message):
        with pytest.raises(UsageError, match=message):
            friedman(np.ones(shape), names, is_higher_better=True, blocks=blocks)

    def test_a_level_outside_0_and_1_is_refused(self):
        with pytest.raises(UsageError, match=r"write 0\.95"):
            friedman(np.ones((3, 3)), ABC, is_higher_better=True, level=95)

    def test_equal_treatments_are_refuted_as_often_as_stated(self):
        draws = np.random.default_rng(2)
        found = [
            friedman(draws.random((12, 5)), "abcde", is_higher_better=True) for _ in range(500)
        ]
        bound = 0.05 + 3 * math.sqrt(0.05 / 500)
        assert np.mean([one.p <= 0.05 for one in found]) <= bound
        assert np.mean([one.f_p <= 0.05 for one in found]) <= bound

    @given(st.integers(2, 6), st.integers(2, 5), st.integers(0, 99))
    def test_a_monotone_transform_changes_nothing(self, blocks, treatments, seed):
        values = np.random.default_rng(seed).integers(0, 4, (blocks, treatments)).astype(float)
        names = "abcde"[:treatments]
        plain = friedman(values, names, is_higher_better=True)
        assert friedman(np.exp(values), names, is_higher_better=True) == plain


class TestWilcoxon:
    def test_all_of_one_sign_has_the_smallest_p_value(self):
        assert wilcoxon_signed_rank(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)

    def test_zeros_are_left_out(self):
        with_zeros = wilcoxon_signed_rank(np.array([0.0, 1, 2, -3, 0]))
        assert with_zeros == pytest.approx(wilcoxon_signed_rank(np.array([1.0, 2, -3])))
        assert wilcoxon_signed_rank(np.zeros(4)) == 1

    def test_values_that_are_not_finite_are_refused(self):
        with pytest.raises(UsageError, match="finite"):
            wilcoxon_signed_rank(np.array([math.nan]))

    def test_pairs_are_adjusted_for_all_pairs(self):
        even = np.tile([0.0, 1.0], 6) * np.arange(1, 13)
        values = np.stack([even, even[::-1], np.arange(20.0, 32)], axis=1)
        found = wilcoxon_holm(values, ABC)
        assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
        assert found["a", "c"] == pytest.approx(3 * 2 / 2**12)
        assert found["a", "b"] > 0.05

    def test_few_blocks_and_many_pairs_never_reject(self):
        values = np.tile(np.arange(8.0), (6, 1))
        assert min(wilcoxon_holm(values, "abcdefgh").values()) > 0.05
