"""Several candidates at once: adjusted p-values by hand, and what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.decision.certificate import chain_certified, holm_certified, intersection_p
from shrinkproof.errors import UsageError

P = st.floats(0, 1)
FAMILIES = st.lists(P, min_size=1, max_size=8).map(
    lambda values: {f"m/{number}": p for number, p in enumerate(values)}
)


class TestIntersection:
    def test_the_weakest_promise_speaks_for_all(self):
        assert intersection_p([0.01, 0.2, 0.03]) == 0.2
        assert intersection_p([0.01]) == 0.01

    def test_no_promise_and_no_p_value_are_refused(self):
        with pytest.raises(UsageError, match="at least one promise, got none"):
            intersection_p([])
        with pytest.raises(UsageError, match="between 0 and 1, got nan"):
            intersection_p([0.1, math.nan])


class TestHolm:
    def test_the_smallest_p_value_pays_for_all(self):
        found = holm_certified({"a": 0.04, "b": 0.01, "c": 0.02, "d": 0.9})
        assert found["b"] == pytest.approx(0.04)
        assert found["c"] == pytest.approx(0.06)
        assert found["a"] == pytest.approx(0.08)
        assert found["d"] == pytest.approx(0.9)
        assert found.certified == ("b",)
        assert list(found) == ["a", "b", "c", "d"]
        assert len(found) == 4

    def test_a_p_value_at_the_error_certifies(self):
        assert holm_certified({"a": 0.05}, 0.05).certified == ("a",)

    @given(p=FAMILIES)
    def test_it_certifies_what_the_closed_test_does(self, p):
        # The closure of Bonferroni: certified if every group of candidates with it is rejected.
        found = holm_certified(p, 0.05)
        for label in p:
            others = [name for name in p if name != label]
            worst = max(
                (1 + len(rest)) * min(p[name] for name in (label, *rest))
                for size in range(len(others) + 1)
                for rest in itertools.combinations(others, size)
            )
            assert found[label] == pytest.approx(min(1, worst))

    @given(p=FAMILIES)
    def test_a_candidate_that_failed_makes_it_harder_for_the_others(self, p):
        assert set(holm_certified({**p, "failed": 1.0}).certified) <= set(
            holm_certified(p).certified
        )


class TestChains:
    def test_each_chain_has_its_share_and_stops_at_its_first_failure(self):
        p = {"a1": 0.01, "a2": 0.02, "a3": 0.3, "a4": 0.001, "b1": 0.03, "b2": 0.001}
        found = chain_certified(p, [["a1", "a2", "a3", "a4"], ["b1", "b2"]])
        expected = {"a1": 0.02, "a2": 0.04, "a3": 0.6, "a4": 0.6, "b1": 0.06, "b2": 0.06}
        assert dict(found) == pytest.approx(expected)
        assert found.certified == ("a1", "a2")

    @given(p=FAMILIES)
    def test_one_chain_corrects_nothing(self, p):
        found = chain_certified(p, [list(p)])
        assert list(found.values()) == np.maximum.accumulate(list(p.values())).tolist()

    @given(p=FAMILIES)
    def test_a_chain_for_each_candidate_is_bonferroni(self, p):
        found = chain_certified(p, [[label] for label in p])
        assert dict(found) == pytest.approx({k: min(1, len(p) * v) for k, v in p.items()})

    @pytest.mark.parametrize(
        ("chains", "words"),
        [
            ([["a", "b"], ["b"]], "stand in one place, got b"),
            ([["a"]], "got b in only one of both"),
            ([["a", "b", "c"]], "got c in only one of both"),
            ([["a", "b"], []], "got an empty one"),
        ],
    )
    def test_each_candidate_stands_in_exactly_one_chain(self, chains, words):
        with pytest.raises(UsageError, match=words):
            chain_certified({"a": 0.1, "b": 0.1}, chains)


@pytest.mark.parametrize("test", [holm_certified, lambda p, e=0.05: chain_certified(p, [["a"]], e)])
class TestBoth:
    def test_a_p_value_that_is_none_is_refused(self, test):
        with pytest.raises(UsageError, match="the p-value of a must be between 0 and 1, got nan"):
            test({"a": math.nan})

    def test_an_empty_family_is_refused(self, test):
        with pytest.raises(UsageError, match="at least one candidate"):
            test({})

    @pytest.mark.parametrize("error", [0.0, 1.0, math.nan])
    def test_an_error_that_is_none_is_refused(self, test, error):
        with pytest.raises(UsageError, match="error must be between 0 and 1"):
            test({"a": 0.1}, error)
