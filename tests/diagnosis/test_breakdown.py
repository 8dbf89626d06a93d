"""Where errors come from."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.diagnosis.breakdown import Breakdown, break_down
from shrinkproof.diagnosis.paired import Paired
from shrinkproof.diagnosis.rules import Scope, scope_of
from shrinkproof.diagnosis.wording import scope_in_words
from shrinkproof.records import Condition
from shrinkproof.selectors import Selector

from .builder import paired

CONDITIONS = tuple(
    Condition.parse(text) for text in ("clean", "fog:1", "fog:3", "gaussian_noise:1")
)


def _scope(text: str) -> Scope:
    return scope_of(Selector.parse(text), CONDITIONS)


def _found(paired_: Paired, text: str) -> Breakdown:
    found = break_down(paired_, _scope(text))
    assert isinstance(found, Breakdown)
    return found


def _example() -> Paired:
    """Sixty images; under fog:3 the candidate takes all cats but two for dogs, nothing else."""
    target = np.repeat([0, 1, 2], 20)
    right = np.tile(target, (4, 1))
    own = right.copy()
    own[2, :18] = 1
    weather = np.where(np.arange(60) % 2 == 0, "day", "night")
    return paired(target, own, right, tuple(map(str, CONDITIONS)), slices={"weather": weather})


def test_a_rule_is_about_its_conditions() -> None:
    names = {
        "accuracy.top1@clean": ["clean"],
        "accuracy.top1@corrupted": ["fog:1", "fog:3", "gaussian_noise:1"],
        "robustness.mean_error": ["fog:1", "fog:3", "gaussian_noise:1"],
        "accuracy.top1@fog": ["fog:1", "fog:3"],
        "accuracy.top1@fog:3": ["fog:3"],
        "robustness.error@weather": ["fog:1", "fog:3"],
        "cost.bytes": [],
    }
    for text, wanted in names.items():
        assert [str(c) for c in _scope(text).conditions] == wanted, text
    assert _scope("accuracy.recall{class=cat}@fog:3").name == "fog:3{class=cat}"
    assert _scope("accuracy.top1@clean").is_of_errors
    assert not _scope("calibration.ece@clean").is_of_errors


def test_the_loss_is_found_in_its_condition_class_and_pair() -> None:
    found = _found(_example(), "accuracy.top1@corrupted")
    assert found.total.is_shown
    assert found.total.loss == 18 / 180
    assert (found.single[0].name, found.single[0].share) == ("fog:3", 1.0)
    assert [row.name for row in found.single if row.is_shown] == ["fog:3"]
    assert [row.name for row in found.corruptions if row.is_shown] == ["fog"]
    assert [row.name for row in found.groups if row.is_shown] == ["weather"]
    assert [(row.name, row.share) for row in found.classes if row.is_shown] == [("cat", 1.0)]
    (pair,) = found.confusions
    assert (pair.name, pair.value, pair.baseline) == ("cat -> dog", 18 / 60, 0.0)
    assert (found.negative, found.positive) == (18, 0)


def test_both_halves_of_a_column_lose_and_share_the_loss() -> None:
    found = _found(_example(), "accuracy.top1@fog:3")
    assert {row.name: row.share for row in found.slices} == {
        "weather=day": 0.5,
        "weather=night": 0.5,
    }
    assert all(row.is_shown for row in found.slices)


def test_part_of_the_images_is_what_a_rule_is_about() -> None:
    found = _found(_example(), "accuracy.recall{class=cat}@fog:3")
    assert (found.total.images, found.total.value) == (20, 0.9)
    assert found.classes == ()
    night = _found(_example(), "accuracy.top1{weather=night}@fog:3")
    assert (night.total.images, night.total.value) == (30, 9 / 30)
    missing = break_down(_example(), _scope("accuracy.top1{weather=dusk}@fog:3"))
    assert missing == "fog:3{weather=dusk}: the report split has no such image"


def test_equal_networks_lose_nothing_and_have_no_shares() -> None:
    example = _example()
    found = _found(paired(example.target, example.other, example.other, ["clean"] * 4), "a.b@clean")
    assert not found.total.is_shown
    assert found.total.share is None
    assert not any(row.is_shown for row in found.classes)
    assert found.confusions == found.images == ()


def test_images_lost_most_often_come_first() -> None:
    target = [0, 1, 2]
    own = [[1, 1, 2], [1, 0, 2], [2, 1, 2]]
    conditions = ("fog:1", "fog:3", "gaussian_noise:1")
    found = _found(paired(target, own, [target] * 3, conditions), "accuracy.top1@corrupted")
    first, second = found.images
    assert (first.index, first.target, first.predicted, first.count) == (100, "cat", "dog", 3)
    assert (second.index, second.under) == (101, ("fog:3",))


def test_metrics_that_are_no_mean_of_errors_are_told() -> None:
    (note,) = _found(_example(), "calibration.ece@clean").notes
    assert note.startswith("calibration.ece is no mean of errors")


def test_what_is_gained_elsewhere_is_told_beside_the_shares_of_the_loss() -> None:
    target = [0] * 60 + [1] * 60
    own = [[1] * 40 + [0] * 20 + [1] * 60]  # 40 cats are lost, and 12 dogs are won
    other = [[0] * 60 + [0] * 12 + [1] * 48]
    found = _found(paired(target, own, other), "accuracy.top1@clean")
    assert [(row.name, row.share) for row in found.classes] == [
        ("cat", pytest.approx(40 / 28)),
        ("dog", pytest.approx(-12 / 28)),
    ]
    text = " ".join(scope_in_words(found))
    assert "By class, the net loss is in cat (143 % of it, +66.7 points)." in text
    assert "Errors are fewer in dog (-43 % of it, -20.0 points)." in text
    assert "By class, the loss is in cat (100 %" in " ".join(
        scope_in_words(_found(paired(target, own, [target]), "accuracy.top1@clean"))
    )
