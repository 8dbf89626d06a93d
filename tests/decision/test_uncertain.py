"""Shares of resampled data sets agree with `decide`; dominance is shown only where it is true."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shrinkproof.decision.choice import Objective, Option, Rule, decide
from shrinkproof.decision.pareto import tolerant_front
from shrinkproof.decision.uncertain import (
    Draws,
    PairTests,
    Uncertainty,
    counted,
    dominated_by,
    indistinct,
    shares,
    shown,
    timed,
)
from shrinkproof.protocols import Better
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.statistics.superiority import no_worse, superiority

ACCURACY = Objective(Selector.parse("accuracy.top1@clean"), Better.HIGHER)
ERROR = Objective(Selector.parse("robustness.mean_error"), Better.LOWER)
BYTES = Objective(Selector.parse("cost.bytes"), Better.LOWER)
LATENCY = Objective(Selector.parse("cost.latency_median"), Better.LOWER)


def draws(
    values: NDArray[np.float64],
    objectives: tuple[Objective, ...],
    constraints: tuple[Constraint, ...] = (),
    tolerance: tuple[float, ...] | None = None,
) -> Draws:
    """Rules are about the first objectives."""
    labels = tuple("dacbfehg"[: values.shape[1]])
    given_tolerance = np.zeros(values.shape[2]) if tolerance is None else np.array(tolerance)
    rules = values[:, :, : len(constraints)]
    return Draws(labels, objectives, values, constraints, rules, given_tolerance)


def decided(one: Draws, row: int, rule: Rule) -> tuple[set[str], str | None]:
    """What `decide` says about one data set."""
    names = [str(o.selector) for o in one.objectives]
    options = [
        Option(
            label,
            label,
            "recipe",
            {
                name: None if math.isnan(value) else value
                for name, value in zip(names, one.values[row, position].tolist(), strict=True)
            },
        )
        for position, label in enumerate(one.labels)
    ]
    tolerances = dict(zip(names, one.tolerance.tolist(), strict=True))
    found = decide(options, one.objectives, one.constraints, rule, tolerances=tolerances)
    return set(found.front), found.chosen


# shares


@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.sampled_from(["knee", "lexicographic"]),
    st.integers(0, 1),
    st.sampled_from([0.0, 0.25]),
)
@settings(max_examples=60, deadline=None)
def test_each_data_set_is_decided_as_decide_does(
    seed: int, count: int, rule: Rule, limits: int, tolerance: float
) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that ties and duplicates are common.
    values = rng.integers(0, 4, (7, count, 3)).astype(float) / 4
    values[rng.random(values.shape) < 0.05] = np.nan
    rules = (Constraint.parse("accuracy.top1@clean >= 0.25"),) if limits else ()
    one = draws(values, (ACCURACY, ERROR, BYTES), rules, (0.0, 0.0, tolerance))
    front, chosen = shares(one, rule)
    expected = [decided(one, row, rule) for row in range(7)]
    for label in one.labels:
        assert front[label] == pytest.approx(sum(label in f for f, _ in expected) / 7)
        assert chosen[label] == pytest.approx(sum(label == c for _, c in expected) / 7)
    left = sum(c is not None for _, c in expected) / 7
    assert sum(chosen.values()) == pytest.approx(left)


@given(st.integers(0, 10_000), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_the_front_is_the_tolerant_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, (5, count, 2)).astype(float)
    front, _ = shares(draws(values, (ERROR, BYTES), tolerance=(0.0, 2.0)), "knee")
    expected = [
        tolerant_front(row, [Better.LOWER, Better.LOWER], [0.0, 2.0]).members for row in values
    ]
    assert list(front.values()) == pytest.approx(
        np.mean(expected, axis=0)[np.argsort(list("dacbfehg"[:count]))].tolist()
    )


def test_one_byte_makes_no_front() -> None:
    values = np.array([[[0.10, 1000.0], [0.11, 999.0]]])
    plain, _ = shares(draws(values, (ERROR, BYTES)), "knee")
    tolerant, chosen = shares(draws(values, (ERROR, BYTES), tolerance=(0.0, 10.0)), "knee")
    assert plain == {"a": 1.0, "d": 1.0}
    assert (tolerant, chosen) == ({"a": 0.0, "d": 1.0}, {"a": 0.0, "d": 1.0})


def test_nobody_is_chosen_where_nobody_keeps_the_rules() -> None:
    values = np.array([[[0.9, 0.1], [0.8, 0.1]], [[0.5, 0.1], [0.6, 0.1]]])
    rule = Constraint.parse("accuracy.top1@clean >= 0.85")
    front, chosen = shares(draws(values, (ACCURACY, ERROR), (rule,)), "knee")
    assert front == chosen == {"a": 0.0, "d": 0.5}


def test_fifty_options_take_less_than_two_seconds() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((50, 3)) + rng.normal(0, 0.02, (1000, 50, 3))
    labels = tuple(f"c{i}" for i in range(50))
    one = Draws(labels, (ACCURACY, ERROR, BYTES), values, (), values[:, :, :0], np.zeros(3))
    start = time.process_time()
    front, _ = shares(one, "knee")
    assert time.process_time() - start < 2
    assert 0 < max(front.values()) <= 1


# dominance


def estimated(
    gains: dict[tuple[int, int], NDArray[np.float64]], count: int, tolerance: float
) -> PairTests:
    """Tests of an objective from the difference of every pair, row minus column."""
    kept, better = np.full((2, count, count), np.nan)
    spread = np.full((count, count), np.nan)
    for (i, j), gain in gains.items():
        for a, b, way in ((i, j, 1.0), (j, i, -1.0)):
            kept[a, b] = no_worse(way * gain, tolerance, largest_loss=1.0).p
            better[a, b] = superiority(way * gain).p
            spread[a, b] = gain.std(ddof=1)
    return PairTests("accuracy.top1@clean", kept, better, False, spread)


def of_right(right: NDArray[np.bool_], tolerance: float) -> PairTests:
    """Tests of accuracies, (C, N) right."""
    values = right.astype(float)
    pairs = {(i, j): values[i] - values[j] for i in range(len(values)) for j in range(i)}
    return estimated(pairs, len(values), tolerance)


def test_dominance_needs_every_objective_and_one_that_is_better() -> None:
    right = np.ones((2, 1000), bool)
    right[1, :100] = False  # a is better by 10 points
    labels = ("a", "b")
    tests = [of_right(right, 0.01), counted(BYTES, np.array([1000.0, 1000.0]), 10.0)]
    assert dominated_by(labels, shown(tests), labels, 0.95) == {"b": ("a",)}
    larger = [tests[0], counted(BYTES, np.array([1011.0, 1000.0]), 10.0)]
    assert dominated_by(labels, shown(larger), labels, 0.95) == {}
    within = [tests[0], counted(BYTES, np.array([1010.0, 1000.0]), 10.0)]
    assert dominated_by(labels, shown(within), labels, 0.95) == {"b": ("a",)}


def test_equal_options_and_one_byte_are_no_dominance() -> None:
    right = np.random.default_rng(0).random((2, 2000)) < 0.9
    right[1] = right[0]
    tests = [of_right(right, 0.02), counted(BYTES, np.array([999.0, 1000.0]), 10.0)]
    assert dominated_by(("a", "b"), shown(tests), ("a", "b"), 0.95) == {}
    half = [tests[0], counted(BYTES, np.array([500.0, 1000.0]), 10.0)]
    assert dominated_by(("a", "b"), shown(half), ("a", "b"), 0.95) == {"b": ("a",)}


def test_overlapping_intervals_are_no_support() -> None:
    # 40 images: the intervals of 0.90 and 0.85 overlap, and nothing is shown either way.
    right = np.ones((2, 40), bool)
    right[0, :4] = right[1, 2:8] = False
    tests = [of_right(right, 0.01), counted(BYTES, np.array([500.0, 1000.0]), 10.0)]
    assert dominated_by(("a", "b"), shown(tests), ("a", "b"), 0.95) == {}


def test_an_option_that_breaks_a_rule_dominates_nobody() -> None:
    tests = [counted(BYTES, np.array([1.0, 2.0, 3.0]), 0.0)]
    found = dominated_by(("a", "b", "c"), shown(tests), ("b", "c"), 0.95)
    assert found == {"c": ("b",)}


def test_p_values_are_corrected_by_hand() -> None:
    kept = np.array([[np.nan, 0.001], [0.5, np.nan]])
    better = np.array([[np.nan, 0.004], [0.5, np.nan]])
    spread = np.ones((2, 2))
    first = PairTests("a", kept, better, False, spread)
    second = PairTests("b", kept, np.array([[np.nan, 0.02], [1, np.nan]]), False, spread)
    found = shown([first, second])
    # Larger of 0.001 (no worse) and 2 x 0.004 (better in one of two), times two pairs.
    assert found.family == 2
    assert found.adjusted[0, 1] == pytest.approx(0.016)
    # What the counted costs exclude is known and no part of the family.
    cost = counted(BYTES, np.array([1.0, 2.0]), 0.0)
    found = shown([first, cost])
    assert found.family == 1
    assert found.adjusted[0, 1] == pytest.approx(0.001)


def test_what_cannot_be_tested_is_not_shown() -> None:
    nothing = np.full((2, 2), np.nan)
    unknown = PairTests("x", nothing, nothing, False, nothing, {(0, 1): "no interval"})
    cost = counted(BYTES, np.array([1.0, 2.0]), 0.0)
    assert shown([unknown, cost]).adjusted.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    "tolerance", [0.0, pytest.param(0.05, marks=pytest.mark.slow)], ids=["zero", "five"]
)
def test_equal_options_are_called_dominated_in_at_most_5_percent_of_worlds(
    tolerance: float,
) -> None:
    rng = np.random.default_rng(1)
    worlds, hits = 400, 0
    cost = counted(BYTES, np.full(4, 1000.0), 10.0)
    for _ in range(worlds):
        shared = rng.random(300)
        right = 0.7 * shared + 0.3 * rng.random((4, 300)) < 0.8
        found = shown([of_right(right, tolerance), cost])
        hits += bool((found.adjusted <= 0.05).any())
    assert hits / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)


@pytest.mark.slow
def test_options_at_the_limit_are_called_dominated_in_at_most_5_percent_of_worlds() -> None:
    # a is half as large and loses exactly the tolerance: no dominance, by a hair.
    rng = np.random.default_rng(2)
    worlds, hits = 400, 0
    cost = counted(BYTES, np.array([500.0, 1000.0]), 10.0)
    for _ in range(worlds):
        draw = rng.random(400)
        right = np.stack([draw >= 0.14, (draw < 0.03) | (draw >= 0.12)])
        hits += bool(shown([of_right(right, 0.05), cost]).adjusted[0, 1] <= 0.05)
    assert hits / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)


def test_a_clearly_better_option_is_found() -> None:
    rng = np.random.default_rng(3)
    cost = counted(BYTES, np.full(4, 1000.0), 10.0)
    hits = 0
    for _ in range(50):
        right = rng.random((4, 500)) < np.array([[0.95], [0.8], [0.8], [0.8]])
        found = shown([of_right(right, 0.01), cost])
        hits += set(dominated_by("abcd", found, "abcd", 0.95)) == set("bcd")
    assert hits >= 48


# times


def test_times_are_told_apart_beyond_the_tolerance() -> None:
    values = np.array([1.0, 1.02, 2.0])
    found = timed(LATENCY, values, np.full(3, 0.01), 4, 0.05)
    assert found.better[0, 2] < 0.001
    assert found.better[0, 1] > 0.5  # 2 % less is nothing
    assert found.no_worse[1, 0] < 0.1  # and 2 % more is no loss
    assert found.no_worse[2, 0] > 0.99
    # By hand: (log 1.02 - log 1.05) / (0.01 sqrt 2) = -2.0498, one side of t with 4.
    assert found.no_worse[1, 0] == pytest.approx(0.0549, abs=5e-4)


def test_a_time_without_interval_shows_nothing() -> None:
    found = timed(LATENCY, np.array([1.0, 2.0]), np.array([0.01, np.nan]), 4, 0.05)
    assert np.isnan(found.better[0, 1])
    assert found.why[0, 1] == "a time without an interval over processes shows nothing"
    assert shown([found]).adjusted[0, 1] == 1


# not distinguishable


def test_images_needed_are_named_for_the_stated_margin() -> None:
    right = np.ones((2, 200), bool)
    right[0, :4] = right[1, 2:8] = False  # 2 and 4 images of their own: sd 0.17
    tests = [of_right(right, 0.0), counted(BYTES, np.array([1.0, 2.0]), 0.0)]
    (found,) = indistinct(("a", "b"), "a", ("b",), tests, {"accuracy.top1@clean": 0.01}, 0.95)
    sd = (right[0].astype(float) - right[1]).std(ddof=1)
    assert found.images_needed == math.ceil(((1.959964 + 0.841621) * sd / 0.01) ** 2)
    (found,) = indistinct(("a", "b"), "a", ("b",), tests, {"accuracy.top1@clean": 0.0}, 0.95)
    assert found.images_needed is None
    assert found.why.startswith("no difference that matters is stated")


def test_a_shown_difference_is_not_listed() -> None:
    right = np.ones((2, 200), bool)
    right[1, :50] = False
    assert indistinct(("a", "b"), "a", ("b",), [of_right(right, 0.0)], {}, 0.95) == ()


def test_json_is_plain() -> None:
    found = Uncertainty("select", 10, front={"a": 1.0}, dominated={"b": ("a",)})
    assert json.loads(json.dumps(found.as_json()))["dominated"] == {"b": ["a"]}


def test_images_at_hand_that_would_have_shown_the_margin_say_so() -> None:
    rng = np.random.default_rng(0)
    gain = rng.choice([-1.0, 0.0, 1.0], 5000, p=[0.02, 0.96, 0.02])
    test = replace(estimated({(0, 1): gain}, 2, 0.02), images=5000)
    objective = test.objective
    (found,) = indistinct("ab", "a", ["b"], [test], {objective: 0.02}, 0.95)
    assert found.images_needed is not None
    assert found.images_needed < 5000
    assert "these 5,000 images would have shown" in found.why
    (found,) = indistinct("ab", "a", ["b"], [test], {objective: 0.001}, 0.95)
    assert found.why == "for a difference of 0.001"
