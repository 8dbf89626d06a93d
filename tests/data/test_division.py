from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.data.division import divide, stratified
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.splits import SplitRule
from shrinkproof.errors import DataError


def rule(**sizes: object) -> SplitRule:
    return SplitRule(from_="toys", **sizes)


def test_sizes_are_exact_and_splits_disjoint(make_images) -> None:
    images = make_images([0, 1, 2] * 40)
    parts = divide(images, rule(select=30, certify=25, report="rest"))
    assert {n: len(p) for n, p in parts.items()} == {"select": 30, "certify": 25, "report": 65}
    together = np.concatenate([p.index for p in parts.values()])
    assert sorted(together) == list(range(120))
    for part in parts.values():
        assert (np.diff(part.index) > 0).all()
        np.testing.assert_array_equal(part.images[np.arange(len(part))], images.images[part.index])


def test_the_division_does_not_depend_on_order_but_on_the_seed(make_images) -> None:
    images = make_images([0, 1, 2] * 20)
    shuffled = images.take(np.random.default_rng(0).permutation(60))
    first = divide(images, rule(select=20, report="rest"))
    second = divide(shuffled, rule(select=20, report="rest"))
    other = divide(images, rule(select=20, report="rest", seed=1))
    np.testing.assert_array_equal(first["select"].index, second["select"].index)
    assert set(first["select"].hashes) != set(other["select"].hashes)


def test_another_split_does_not_move_the_first(make_images) -> None:
    images = make_images([0] * 50)
    alone = divide(images, rule(select=10))
    both = divide(images, rule(select=10, report="rest"))
    np.testing.assert_array_equal(alone["select"].index, both["select"].index)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_identical_images_and_groups_stay_whole(data: st.DataObject) -> None:
    count = data.draw(st.integers(6, 40))
    pixels = np.arange(count, dtype=np.uint8).repeat(48).reshape(count, 4, 4, 3)
    originals = data.draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    pixels = pixels[originals]
    groups = data.draw(st.none() | st.lists(st.sampled_from("abcdefgh"), min_size=count))
    images = ImageSet(
        source="toys",
        images=pixels,
        shape=(4, 4),
        target=np.zeros(count, dtype=np.int64),
        classes=("cat",),
        index=np.arange(count),
        hashes=np.array([f"{o:016x}" for o in originals]),
        groups=None if groups is None else np.array(groups[:count]),
    )
    try:
        parts = divide(images, rule(train=count // 3, select=count // 4, report="rest"))
    except DataError as error:
        assert "would be empty" in str(error)  # noqa: PT017
        return
    assert sum(map(len, parts.values())) == count
    for column in ("hashes", "groups"):
        values = [getattr(part, column) for part in parts.values()]
        if values[0] is None:
            continue
        sets = [set(v.tolist()) for v in values]
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_a_pair_that_does_not_fit_goes_elsewhere(make_images) -> None:
    images = make_images([0] * 20, copies_of={1: 0, 3: 2, 5: 4})
    for seed in range(10):
        parts = divide(images, rule(select=7, report="rest", seed=seed))
        assert len(parts["select"]) == 7
        assert not set(parts["select"].hashes) & set(parts["report"].hashes)


def test_groups_reach_sizes_as_nearly_as_possible(make_images) -> None:
    images = make_images([0] * 40, groups=[f"drive {i // 10}" for i in range(40)])
    sizes = {
        wanted: len(divide(images, rule(select=wanted, report="rest"))["select"])
        for wanted in (3, 10, 14, 16, 26)
    }
    # 3 is nearer to 0 than to 10, but nothing is no split.
    assert sizes == {3: 10, 10: 10, 14: 10, 16: 20, 26: 30}


def test_a_split_that_would_be_empty(make_images) -> None:
    images = make_images([0] * 40, groups=[f"drive {i // 10}" for i in range(40)])
    with pytest.raises(DataError, match=r"report would be empty.*40 images in only 4 groups"):
        divide(images, rule(select=36, report="rest"))


def test_groups_that_share_an_image_are_one(make_images) -> None:
    groups = ["a"] * 5 + ["b"] * 5 + ["c"] * 10
    images = make_images([0] * 20, copies_of={7: 2}, groups=groups)
    parts = divide(images, rule(select=10, report="rest"))
    assert {frozenset(p.groups.tolist()) for p in parts.values()} == {
        frozenset("ab"),
        frozenset("c"),
    }


def test_too_few_images(make_images) -> None:
    with pytest.raises(DataError, match="select 6, report rest need at least 7 images, but toys"):
        divide(make_images([0] * 6), rule(select=6, report="rest"))
    with pytest.raises(DataError, match="at least 8"):
        divide(make_images([0] * 6), rule(select=5, report=3))
    assert len(divide(make_images([0] * 6), rule(select=5, report=1))["report"]) == 1


def test_stratified_takes_classes_in_proportion(make_images) -> None:
    images = make_images([0] * 50 + [1] * 30 + [2] * 20)
    subset = stratified(images, 10)
    assert np.bincount(subset.target).tolist() == [5, 3, 2]
    assert (np.diff(subset.index) > 0).all()
    # 2.5, 1.5 and 1 of 5: one place is left, and the first of the equal remainders gets it.
    assert np.bincount(stratified(images, 5).target).tolist() == [3, 1, 1]


def test_stratified_is_by_hash_not_by_order(make_images) -> None:
    images = make_images([0, 1, 2, 0] * 10)
    shuffled = images.take(np.random.default_rng(1).permutation(40))
    np.testing.assert_array_equal(stratified(images, 12).index, stratified(shuffled, 12).index)
    lowest = sorted(images.hashes[images.target == 1])[:3]
    taken = stratified(images, 12)
    assert sorted(taken.hashes[taken.target == 1]) == lowest


@settings(max_examples=25, deadline=None)
@given(
    target=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    share=st.floats(0, 1),
)
def test_stratified_quotas(target: list[int], share: float) -> None:
    count = round(share * len(target))
    images = ImageSet(
        source="toys",
        images=np.zeros((len(target), 4, 4, 3), dtype=np.uint8),
        shape=(4, 4),
        target=np.array(target),
        classes=("a", "b", "c"),
        index=np.arange(len(target)),
        hashes=np.array([f"{i:016x}" for i in range(len(target))]),
    )
    taken = np.bincount(stratified(images, count).target, minlength=3)
    exact = np.bincount(target, minlength=3) * count / len(target)
    assert taken.sum() == count
    assert (np.abs(taken - exact) < 1).all()


def test_stratified_refuses_more_than_there_is(make_images) -> None:
    with pytest.raises(DataError, match="0 to 3, got 4"):
        stratified(make_images([0, 1, 2]), 4)
