"""Flips, recall per class and exemplars of worlds counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import DataError
from shrinkproof.metrics.flips import flip_terms
from shrinkproof.records import CLEAN, Candidate, Cell
from shrinkproof.statistics import estimate
from shrinkproof.summary import summarize

from .worlds import (
    FOG,
    candidates,
    exhibits,
    number,
    predictions,
    summary_of,
    with_settings,
)

TARGET = np.repeat([0, 1], 50)
BASE, OWN = "net/baseline", "net/small"


def wrong_at(positions: list[int], other: int = 2) -> np.ndarray:
    predicted = TARGET.copy()
    predicted[positions] = other
    return predicted


def by_hand() -> dict:
    """100 images of classes 0 and 1; class 2 is only ever predicted.

    Clean: the baseline misses image 0; the candidate 1, 2, 3 (negative) and another class for 50.
    Fog 1: as clean for both. Fog 2: the baseline is right everywhere, the candidate misses 1.
    """
    own = wrong_at([1, 2, 3])
    own[50] = 0
    return {
        (BASE, CLEAN): predictions(wrong_at([0]), TARGET),
        (BASE, FOG[0]): predictions(wrong_at([0]), TARGET),
        (BASE, FOG[1]): predictions(TARGET, TARGET),
        (OWN, CLEAN): predictions(own, TARGET),
        (OWN, FOG[0]): predictions(own, TARGET),
        (OWN, FOG[1]): predictions(wrong_at([1], other=1), TARGET),
    }


@pytest.fixture(scope="module")
def summary():
    return summary_of(candidates(["small"]), by_hand())


@pytest.mark.parametrize(
    ("metric", "clean", "fog2"),
    [("flips.churn", 5, 1), ("flips.negative", 4, 1), ("flips.positive", 1, 0)],
)
def test_flips_by_hand(summary, metric: str, clean: int, fog2: int) -> None:
    assert number(summary, OWN, metric).value == pytest.approx(clean / 100)
    assert number(summary, OWN, metric).low is not None
    mean = number(summary, OWN, metric, "corrupted")
    assert mean.value == pytest.approx((clean + fog2) / 200)


def test_accuracy_changes_by_positive_minus_negative_flips(summary) -> None:
    flips = [number(summary, OWN, f"flips.{sign}").value for sign in ("positive", "negative")]
    change = number(summary, OWN, "change.accuracy.top1")
    assert change.value == pytest.approx(flips[0] - flips[1])


def test_churn_counts_one_wrong_class_for_another() -> None:
    terms = flip_terms(predictions([1, 2], [0, 0]), predictions([2, 2], [0, 0]))
    assert estimate(terms["flips.churn"]) == 0.5
    assert estimate(terms["flips.negative"]) == estimate(terms["flips.positive"]) == 0


def test_a_comparison_is_not_compared_again() -> None:
    people = candidates(["small"])
    people[1:] = [
        Candidate("net/control", "net", "control", role="control", control=BASE),
        Candidate(OWN, "net", "small", control="net/control"),
    ]
    rows = by_hand()
    rows |= {("net/control", c): found for (key, c), found in by_hand().items() if key == BASE}
    summary = summary_of(people, rows)
    names = {row.measurement.metric for row in summary.rows}
    assert "change_from_control.accuracy.top1" in names
    assert "flips.negative_from_control" in names
    assert not [name for name in names if name.startswith("change") and "flips." in name]
    assert number(summary, OWN, "flips.negative_from_control").value == pytest.approx(0.04)
    assert number(summary, "net/control", "flips.churn").value == 0


@pytest.mark.parametrize("what", ["index", "order", "length", "target"])
def test_different_images_are_never_compared(what: str) -> None:
    rows = by_hand()
    found = rows[OWN, CLEAN]
    if what == "index":
        rows[OWN, CLEAN] = type(found)(found.logits, found.target, found.index + 1)
    elif what == "order":
        rows[OWN, CLEAN] = found.take(np.arange(100)[::-1])
    elif what == "length":
        rows[OWN, CLEAN] = found.take(np.arange(99))
    else:
        rows[OWN, CLEAN] = type(found)(found.logits, 1 - found.target, found.index)
    with pytest.raises(DataError, match="net/small under clean and net/baseline under clean"):
        summary_of(candidates(["small"]), rows)


def test_conditions_with_other_images_are_refused() -> None:
    rows = by_hand()
    rows[BASE, FOG[1]] = rows[BASE, FOG[1]].take(np.arange(100)[::-1])
    with pytest.raises(DataError, match=r"net/baseline under fog:2 .* are about different images"):
        summary_of(candidates(["small"]), rows)


def test_the_formulas_refuse_different_images() -> None:
    one = predictions([0, 1], [0, 1])
    with pytest.raises(DataError, match="2 and 1 images"):
        flip_terms(one, one.take(np.arange(1)))


# classes


def test_recall_per_class_by_hand(summary) -> None:
    recall = number(summary, OWN, "accuracy.recall", part="class=0")
    assert recall.value == pytest.approx(47 / 50)
    assert recall.count == 50
    assert recall.low < recall.value < recall.high
    assert number(summary, BASE, "accuracy.recall", part="class=0").value == pytest.approx(0.98)
    # Fog 1 misses 3 of class 0, fog 2 misses 1: mean recall (47 + 49) / 100.
    corrupted = number(summary, OWN, "accuracy.recall", "corrupted", "class=0")
    assert corrupted.value == pytest.approx(0.96)
    change = number(summary, OWN, "change.accuracy.recall", "corrupted", "class=0")
    assert change.value == pytest.approx(0.96 - 0.99)
    assert number(summary, BASE, "change.accuracy.recall", part="class=0") is None


def test_a_class_without_images_is_undefined(summary) -> None:
    for metric in ("accuracy.recall", "change.accuracy.recall"):
        nothing = number(summary, OWN, metric, part="class=2")
        assert nothing.value is None
        assert nothing.reason == "no image of the report split is of class 2"


def test_worst_class_is_named_and_its_interval_is_for_all(summary) -> None:
    worst = number(summary, OWN, "flips.worst_class_change")
    assert worst.value == pytest.approx(-0.04)
    assert worst.reason.startswith("class 0, the smallest change of 2 classes")
    own = number(summary, OWN, "change.accuracy.recall", part="class=0")
    assert worst.low < own.low
    assert worst.low < worst.value < worst.high
    assert worst.interval == "clopper-pearson-paired"


def test_classes_carry_their_names() -> None:
    settings = with_settings(classes=("cat", "dog", "frog"))
    summary = summary_of(candidates(["small"]), by_hand(), settings)
    assert number(summary, OWN, "accuracy.recall", part="class=dog").value == pytest.approx(0.98)
    assert "class cat" in number(summary, OWN, "flips.worst_class_change").reason
    assert exhibits(summary, "exemplars")[0]["images"][0]["class"] == "cat"


def test_only_the_printed_split_has_classes() -> None:
    rows = by_hand()
    select = summary_of(candidates(["small"]), rows, split="select")
    assert number(select, OWN, "accuracy.recall", part="class=0") is not None
    cells = [
        Cell(f"{key}@{condition}", key, "scores", "artifact", split, condition)
        for key, condition in rows
        for split in ("select", "report")
    ]
    stored = {f"{key}@{condition}": found for (key, condition), found in rows.items()}
    both = summarize(candidates(["small"]), cells, stored.get, with_settings())
    assert {r.split for r in both.rows if r.measurement.slice} == {"report"}


def test_smallest_of_many_equal_classes_is_within_its_interval() -> None:
    # Ten classes of 60 images that lose and win equally often: the truth is 0 for each of them.
    rng = np.random.default_rng(3)
    target = np.repeat(np.arange(10), 60)
    missed = 0
    for _ in range(40):
        wrong = rng.random((2, 600)) < 0.15
        base, own = (np.where(w, (target + 1) % 10, target) for w in wrong)
        rows = {
            (BASE, CLEAN): predictions(base, target, 10),
            (OWN, CLEAN): predictions(own, target, 10),
        }
        settings = with_settings(conditions=(CLEAN,), metrics=("accuracy.top1",))
        worst = number(
            summary_of(candidates(["small"]), rows, settings), OWN, "flips.worst_class_change"
        )
        assert worst.value < 0
        missed += not worst.low <= 0 <= worst.high
    assert missed <= 4


# exemplars


def test_exemplars_are_the_images_lost_most_often(summary) -> None:
    (shown,) = exhibits(summary, "exemplars")
    assert shown["candidate"] == OWN
    assert shown["conditions"] == 3
    assert shown["affected"] == 4
    first = shown["images"][0]
    assert (first["index"], first["count"], first["under"]) == (1, 3, ["clean", "fog:1", "fog:2"])
    # .9 becomes .05 under clean and fog 1, where another class gets .9, and under fog 2.
    assert first["loss"] == pytest.approx(0.85, abs=1e-6)
    assert (first["class"], first["predicted"]) == ("0", "2")
    assert [image["index"] for image in shown["images"]] == [1, 2, 3, 50]
    json.dumps(shown)


def test_at_most_twelve_exemplars() -> None:
    rows = {(BASE, CLEAN): predictions(TARGET, TARGET)}
    rows[OWN, CLEAN] = predictions(np.full(100, 2), TARGET)
    settings = with_settings(conditions=(CLEAN,))
    (shown,) = exhibits(summary_of(candidates(["small"]), rows, settings), "exemplars")
    assert shown["affected"] == 100
    assert [image["index"] for image in shown["images"]] == list(range(12))


def test_exemplars_need_the_same_conditions_of_both() -> None:
    rows = by_hand()
    del rows[OWN, FOG[1]]
    (shown,) = exhibits(summary_of(candidates(["small"]), rows), "exemplars")
    assert shown["images"] == []
    assert "not measured under the same conditions" in shown["reason"]


def in_ten_classes(*, has_groups: bool) -> dict:
    rng = np.random.default_rng(1)
    target = np.repeat(np.arange(10), 100)
    rows = {}
    for key in (BASE, OWN):
        for condition in (CLEAN, *FOG):
            wrong = rng.random(1000) < 0.2
            found = predictions(np.where(wrong, (target + 1) % 10, target), target, 10)
            names = np.arange(1000).astype(str) if has_groups else None
            rows[key, condition] = type(found)(found.logits, found.target, found.index, names)
    return rows


def test_few_resampled_data_sets_give_no_interval_for_many_classes() -> None:
    summary = summary_of(candidates(["small"]), in_ten_classes(has_groups=False))
    worst = number(summary, OWN, "flips.worst_class_change", "corrupted")
    assert worst.low is None
    assert "200 resampled data sets are too few" in worst.reason
    assert number(summary, OWN, "flips.worst_class_change").low is not None


@pytest.mark.parametrize("has_groups", [False, True])
def test_enough_resampled_data_sets_give_an_interval_for_all_classes(*, has_groups: bool) -> None:
    settings = with_settings(replicates=1000)
    summary = summary_of(candidates(["small"]), in_ten_classes(has_groups=has_groups), settings)
    for place in ("corrupted", "clean")[: 1 + has_groups]:
        worst = number(summary, OWN, "flips.worst_class_change", place)
        assert worst.interval == "bootstrap-percentile"
        assert worst.low < worst.value < worst.high


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30))
def test_flips_add_up_for_any_predictions(images: list[tuple[int, int, int]]) -> None:
    target, own, other = np.array(images).T
    terms = flip_terms(predictions(own, target), predictions(other, target))
    churn, negative, positive = (
        estimate(terms[f"flips.{kind}"]) for kind in ("churn", "negative", "positive")
    )
    assert positive - negative == pytest.approx((own == target).mean() - (other == target).mean())
    assert churn >= positive + negative - 1e-12
    assert churn == pytest.approx((own != other).mean())
