"""Losses beside the baseline, tested so that noise is called no cause."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.diagnosis import paired as tested
from shrinkproof.diagnosis.paired import Part, losses, part_of
from shrinkproof.statistics import holm, mcnemar

from .builder import paired

RNG = np.random.default_rng(0)


def _part(own: np.ndarray, other: np.ndarray, name: str = "") -> Part:
    return Part(name, own.astype(int), other.astype(int), 1, np.arange(len(own)))


def test_loss_is_the_difference_of_both_error_rates_and_shares_add_up() -> None:
    found = paired([0, 0, 1, 1], [[1, 1, 1, 0]], [[0, 1, 1, 1]])
    parts = [part_of(found, "cat", np.array([0, 1])), part_of(found, "dog", np.array([2, 3]))]
    cat, dog = losses(found, parts, total=2)
    assert (cat.value, cat.baseline, cat.loss, cat.images) == (1.0, 0.5, 0.5, 2)
    assert (dog.value, dog.baseline, dog.loss) == (0.5, 0.0, 0.5)
    assert cat.share == dog.share == 0.5
    assert not cat.is_shown, "one image shows nothing"


def test_one_condition_gives_the_p_value_of_mcnemar() -> None:
    own, other = RNG.random(200) < 0.3, RNG.random(200) < 0.15
    found = paired(np.zeros(200, int), [own.astype(int)], [other.astype(int)])
    (row,) = losses(found, [part_of(found, "all")])
    assert row.p == pytest.approx(mcnemar(own, other).p, rel=1e-12)


def test_p_values_are_corrected_for_all_rows_and_for_those_left_out() -> None:
    found = paired(np.zeros(100, int), np.zeros((1, 100), int), np.zeros((1, 100), int))
    shifts = [12, 9, 7]
    parts = [_part(np.arange(100) < shift, np.zeros(100)) for shift in shifts]
    plain = [2.0 * 0.5**shift for shift in shifts]
    assert [row.p for row in losses(found, parts)] == pytest.approx(holm(plain).tolist())
    several = losses(found, parts, family=10)
    assert [row.p for row in several] == pytest.approx(holm([*plain, *[1.0] * 7])[:3].tolist())


def test_groups_are_swapped_whole() -> None:
    groups = np.array([str(at // 20) for at in range(100)])
    own = np.array([at < 20 for at in range(100)])
    found = paired(np.zeros(100, int), [own.astype(int)], np.zeros((1, 100), int), groups=groups)
    (row,) = losses(found, [part_of(found, "all")])
    assert row.p == 1.0, "twenty images of one group are one coin"
    assert not row.is_shown


def test_the_normal_limit_is_near_the_exact_test(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = RNG.binomial(20, 0.32, 300), RNG.binomial(20, 0.3, 300)
    part = Part("", own, other, 20, np.arange(300))
    exact = tested._p_value(part, None)
    monkeypatch.setattr(tested, "MOST_EXACT", 0)
    assert tested._p_value(part, None) == pytest.approx(exact, rel=0.05)


def test_noise_is_shown_in_at_most_one_of_twenty_tables() -> None:
    target = np.zeros(150, int)
    tables = 200
    shown = 0
    for _ in range(tables):
        found = paired(target, [RNG.random(150) < 0.2], [RNG.random(150) < 0.2])
        parts = [part_of(found, str(k), np.arange(k * 15, k * 15 + 15)) for k in range(10)]
        shown += any(row.is_shown for row in losses(found, parts))
    assert shown <= 0.05 * tables + 3 * (tables * 0.05 * 0.95) ** 0.5


def test_conditions_are_taken_in_the_order_of_the_study() -> None:
    found = paired([0, 1], [[0, 0], [1, 1]], [[0, 1], [0, 1]], ("clean", "fog:1"))
    assert [str(c) for c in found.under(found.conditions[1:]).conditions] == ["fog:1"]
    assert found.under(found.conditions[1:]).own.tolist() == [[1, 1]]
    assert found.of(np.array([1])).own.tolist() == [[0], [1]]
