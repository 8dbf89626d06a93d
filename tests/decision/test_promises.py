"""Losses by hand, and what promises make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shrinkproof.decision.promises import Evidence, Promise, class_of, losses_of, promises_of
from shrinkproof.errors import DataError, UsageError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Condition
from shrinkproof.spec.certify import LOSSES, PromiseSpec
from shrinkproof.statistics.risk import binomial_p

FOG, SNOW = Condition("fog", 1), Condition("snow", 3)
CLASSES = ("cat", "dog", "car")
TARGET = np.array([0, 0, 1, 1, 2, 2], dtype=np.int64)


def said(told: list[int], groups: list[str] | None = None) -> ClassificationPredictions:
    """Predictions of these classes for the six images."""
    return ClassificationPredictions(
        np.eye(3, dtype=np.float32)[told] * 2,
        TARGET,
        np.arange(6, dtype=np.int64),
        None if groups is None else np.array(groups),
    )


def promise(loss: str, limit: float = 0.5, *conditions: Condition, over: str = "every") -> Promise:
    name = "cat" if loss == "miss" else ""
    return Promise(loss, loss, limit, over, conditions or (CLEAN,), name)


def test_losses_are_those_by_hand() -> None:
    candidate, baseline = said([0, 1, 1, 2, 2, 2]), said([0, 0, 2, 2, 2, 2])
    assert losses_of(promise("error"), candidate).tolist() == [0, 1, 0, 1, 0, 0]
    assert losses_of(promise("negative_flip"), candidate, baseline).tolist() == [0, 1, 0, 0, 0, 0]
    assert losses_of(promise("excess_error"), candidate, baseline).tolist() == [0, 1, -1, 0, 0, 0]
    right = np.exp(2) / (np.exp(2) + 2)
    other = (1 - right) / 2
    brier = losses_of(promise("brier"), candidate)
    assert brier[0] == pytest.approx(((1 - right) ** 2 + 2 * other**2) / 2)
    assert brier[1] == pytest.approx((right**2 + (1 - other) ** 2 + other**2) / 2)


@given(
    logits=st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=6,
                    max_size=6),
    others=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)  # fmt: skip
def test_every_loss_keeps_its_bounds(logits: list[list[float]], others: list[int]) -> None:
    shown = ClassificationPredictions(
        np.array(logits, dtype=np.float32), TARGET, np.arange(6, dtype=np.int64)
    )
    for loss in LOSSES:
        one = promise(loss)
        found = losses_of(one, shown, said(others))
        assert found.shape == (6,)
        assert found.min() >= one.low
        assert found.max() <= 1


def test_a_paired_loss_needs_the_same_images() -> None:
    with pytest.raises(DataError, match="must have predicted the same images, got none"):
        losses_of(promise("negative_flip"), said([0] * 6))
    other = said([0] * 6).take(np.array([1, 0, 2, 3, 4, 5]))
    with pytest.raises(DataError, match="got others"):
        losses_of(promise("excess_error"), said([0] * 6), other)


def evidence_of(
    one: Promise,
    told: dict[Condition, list[int]],
    *,
    groups: list[str] | None = None,
    baseline: list[int] | None = None,
) -> Evidence:
    evidence = Evidence((one,), CLASSES)
    for condition, classes in told.items():
        beside = None if baseline is None else said(baseline, groups)
        evidence.add(condition, said(classes, groups), beside)
    return evidence


def test_every_condition_has_a_test_and_the_worst_one_counts() -> None:
    one = promise("error", 0.5, CLEAN, FOG)
    told = {CLEAN: [0, 0, 1, 1, 2, 2], FOG: [1, 1, 1, 1, 2, 2]}
    verdict = evidence_of(one, told).verdict(one, 0.05)
    assert (verdict.worst, verdict.units, verdict.method) == ("fog:1", 6, "binomial")
    assert verdict.p == pytest.approx(binomial_p(2, 6, 0.5))
    assert verdict.risk == pytest.approx(1 / 3)
    assert verdict.upper == pytest.approx(0.7287, abs=1e-4)  # Clopper and Pearson for 2 of 6


def test_the_mean_over_conditions_is_one_loss_of_each_image() -> None:
    one = promise("error", 0.6, FOG, SNOW, over="mean")
    told = {FOG: [1, 1, 1, 1, 2, 2], SNOW: [1, 0, 0, 1, 2, 2]}
    evidence = evidence_of(one, told)
    ((worst, losses),) = evidence.units(one)
    assert (worst, losses.tolist()) == ("fog:1", [1.0, 0.5, 0.5, 0.0, 0.0, 0.0])
    verdict = evidence.verdict(one, 0.05)
    assert (verdict.method, verdict.risk) == ("betting", pytest.approx(1 / 3))
    assert evidence.risk(one) == pytest.approx(1 / 3)


def test_groups_are_the_units_and_count_equally() -> None:
    one = promise("error", 0.6)
    groups = ["a", "a", "a", "a", "b", "c"]
    evidence = evidence_of(one, {CLEAN: [0, 0, 1, 0, 0, 2]}, groups=groups)
    ((_, losses),) = evidence.units(one)
    assert losses.tolist() == [0.25, 1.0, 0.0]
    assert evidence.verdict(one, 0.05).units == 3


def test_a_miss_is_about_the_images_of_its_class() -> None:
    one = promise("miss", 0.6)
    evidence = evidence_of(one, {CLEAN: [0, 1, 0, 0, 0, 0]})
    ((_, losses),) = evidence.units(one)
    assert losses.tolist() == [False, True]


def test_excess_error_is_tested_by_betting() -> None:
    one = promise("excess_error", 0.5)
    told = {CLEAN: [1, 0, 1, 1, 2, 2]}
    verdict = evidence_of(one, told, baseline=[0, 0, 1, 0, 2, 2]).verdict(one, 0.05)
    assert (verdict.method, verdict.risk) == ("betting", 0.0)


def test_a_class_without_images_and_a_missing_condition_are_errors() -> None:
    one = Promise("m", "miss", 0.1, "clean", (CLEAN,), "bird")
    evidence = Evidence((one,), (*CLASSES, "bird"))
    evidence.add(CLEAN, said([0] * 6))
    with pytest.raises(DataError, match="at least one image must be of class bird"):
        evidence.verdict(one, 0.05)
    two = promise("error", 0.1, CLEAN, FOG)
    with pytest.raises(DataError, match="got none for fog:1"):
        evidence_of(two, {CLEAN: [0] * 6}).verdict(two, 0.05)


def test_an_unknown_class_is_named_with_what_looks_like_it() -> None:
    with pytest.raises(UsageError, match="got 'dgo'; did you mean dog"):
        class_of(Promise("m", "miss", 0.1, "clean", (CLEAN,), "dgo"), CLASSES)
    assert class_of(promise("error"), CLASSES) is None


@pytest.mark.parametrize(
    ("spec", "name", "words"),
    [
        (
            PromiseSpec(error=0.2, up_to_severity=3),
            "error@every<=3",
            "error at most 20 % on clean images and under each of 2 corrupted conditions "
            "(2 corruptions up to severity 3)",
        ),
        (
            PromiseSpec(excess_error=0.02, over="mean", corruptions=("fog",)),
            "excess_error@mean(fog)",
            "error minus the baseline's at most 2 points in the mean over 1 corrupted condition "
            "(1 corruption up to severity 1)",
        ),
        (
            PromiseSpec(miss=0.1, class_="cat", over="clean"),
            "miss{class=cat}@clean",
            "share of missed images of class cat at most 10 % on clean images",
        ),
        (
            PromiseSpec(brier=0.15, over="fog:1"),
            "brier@fog:1",
            "Brier score (0 to 1) at most 0.15 under fog:1",
        ),
    ],
)
def test_promises_have_short_names_and_plain_words(
    spec: PromiseSpec, name: str, words: str
) -> None:
    (found,) = promises_of([spec], (CLEAN, FOG, SNOW))
    assert (found.name, found.words) == (name, words)
    assert found.as_json()["words"] == words


def _simulated(rng: np.random.Generator, count: int, conditions: int) -> NDArray[np.bool_]:
    """Errors (count, conditions) of images of different difficulty, each with a rate of 0.2."""
    difficulty = rng.beta(0.5, 2.0, (count, 1))
    return rng.random((count, conditions)) < difficulty


def test_a_promise_at_its_limit_is_certified_in_at_most_one_look_of_twenty() -> None:
    """The risk is exactly the limit under every condition, and in the mean over them."""
    rng = np.random.default_rng(3)
    conditions = tuple(Condition("fog", s) for s in (1, 2, 3, 4, 5))
    wrong = {"every": 0, "mean": 0}
    looks = 300
    for _ in range(looks):
        errors = _simulated(rng, 80, len(conditions))
        for over in wrong:
            one = promise("error", 0.2, *conditions, over=over)
            evidence = Evidence((one,), CLASSES)
            target = np.zeros(80, dtype=np.int64)
            index = np.arange(80, dtype=np.int64)
            for column, condition in enumerate(conditions):
                logits = np.eye(3, dtype=np.float32)[errors[:, column].astype(int)]
                evidence.add(condition, ClassificationPredictions(logits, target, index))
            wrong[over] += evidence.verdict(one, 0.05).p <= 0.05
    # 0.05 of 300 is 15; 26 would be three standard deviations more.
    assert wrong["every"] <= wrong["mean"] + 5
    assert max(wrong.values()) <= 26
