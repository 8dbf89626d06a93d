"""Numbers about heat maps of boxes: only pairs count, and boxes without one are told."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.errors import DataError
from shrinkproof.metrics.agreement import Agreement, of_other_images
from shrinkproof.metrics.heatmaps import NO_OBJECT, UNTOLD, HeatMaps
from shrinkproof.metrics.similarity import pearson
from shrinkproof.protocols import Measurement

IMAGES, PER_IMAGE = 40, 3
COUNT = IMAGES * PER_IMAGE


def random_maps(seed: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 8, 8)).astype(np.float32)


def heat_maps(own: np.ndarray, **changes) -> HeatMaps:
    count = len(own)
    image = np.repeat(np.arange(IMAGES), PER_IMAGE)[:count]
    values = {
        "method": "gradcam",
        "layer": "layer3",
        "resolution": (8, 8),
        "maps": {"own": own},
        "index": image,
        "explained": np.zeros(count, dtype=np.int64),
        "target": np.zeros(count, dtype=np.int64),
        "groups": image.astype(np.str_),
        "boxes": np.zeros((count, 4), np.float32),
        "score": np.ones(count, np.float32),
    }
    return HeatMaps(**{**values, **changes})


def found(numbers: list[Measurement], metric: str, part: str = "") -> Measurement:
    (hit,) = [m for m in numbers if (m.metric, m.slice) == (f"saliency.{metric}", part)]
    return hit


def candidate(missing: np.ndarray, seed: int = 0, **changes) -> HeatMaps:
    own = random_maps(seed)
    own[missing] = 0
    return heat_maps(own, present={"own": ~missing}, **changes)


def test_only_pairs_count_and_the_others_are_told() -> None:
    missing = np.arange(COUNT) % 4 == 0
    own, base = candidate(missing), heat_maps(random_maps(1))
    numbers = Agreement().numbers(own, base)
    r = pearson(own.own, base.own)[~missing]
    hcc = found(numbers, "hcc")
    assert hcc.value == pytest.approx(r.mean())
    assert (hcc.count, hcc.interval) == (90, "bootstrap-percentile")
    assert "30 of 120 boxes of the baseline have no counterpart" in hcc.reason
    assert "boxes: the baseline's" in hcc.reason
    assert found(numbers, "hcc_zero").value == pytest.approx(r.mean())
    undefined = found(numbers, "undefined")
    assert (undefined.value, undefined.count) == (0, 90)
    unmatched = found(numbers, "unmatched")
    assert (unmatched.value, unmatched.count, unmatched.better) == (0.25, 120, "lower")
    assert unmatched.low < 0.25 < unmatched.high


def test_a_constant_map_of_a_pair_is_undefined_and_not_unmatched() -> None:
    missing = np.arange(COUNT) < 20
    own = candidate(missing)
    own.own[20:30] = 7
    numbers = Agreement().numbers(own, heat_maps(random_maps(1)))
    assert found(numbers, "undefined").value == pytest.approx(0.1)
    assert found(numbers, "hcc").count == 90
    assert "10 of 100 boxes undefined: a map is constant" in found(numbers, "hcc").reason
    assert found(numbers, "unmatched").value == pytest.approx(20 / 120)


def test_boxes_of_an_image_vary_together() -> None:
    """Three equal boxes per image say no more than one."""
    own, base = random_maps(0, IMAGES), random_maps(1, IMAGES)
    one = found(
        Agreement().numbers(
            heat_maps(own, index=np.arange(IMAGES), groups=None),
            heat_maps(base, index=np.arange(IMAGES), groups=None),
        ),
        "hcc",
    )
    three = found(
        Agreement().numbers(heat_maps(own.repeat(3, axis=0)), heat_maps(base.repeat(3, axis=0))),
        "hcc",
    )
    assert three.value == pytest.approx(one.value)
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.15)


def test_boxes_in_a_crowd_are_neither_right_nor_wrong() -> None:
    target = np.zeros(COUNT, dtype=np.int64)
    target[:30], target[30:50], target[50:60] = UNTOLD, NO_OBJECT, 1
    missing = np.arange(COUNT) % 2 == 0
    numbers = Agreement().numbers(
        candidate(missing, target=target), heat_maps(random_maps(1), target=target)
    )
    assert found(numbers, "unmatched", "baseline=right").count == 60
    assert found(numbers, "unmatched", "baseline=wrong").count == 30
    assert found(numbers, "hcc", "baseline=right").count == 30
    assert found(numbers, "hcc", "baseline=wrong").count == 15


def test_parts_without_boxes_or_pairs_say_so() -> None:
    everything = np.ones(COUNT, dtype=bool)
    numbers = Agreement().numbers(candidate(everything), heat_maps(random_maps(1)))
    hcc = found(numbers, "hcc")
    assert (hcc.value, hcc.count) == (None, 0)
    assert "there are no boxes to compare" in hcc.reason
    assert found(numbers, "unmatched").value == 1
    wrong = found(numbers, "hcc", "baseline=wrong")
    assert "there is no box that the baseline gets wrong" in wrong.reason


def test_no_boxes_at_all_leave_no_number() -> None:
    maps = heat_maps(random_maps(0, 0))
    numbers = Agreement().numbers(maps, maps)
    assert {m.value for m in numbers} == {None}
    assert "there are no boxes" in found(numbers, "unmatched").reason


def test_the_twin_has_a_share_of_its_own() -> None:
    missing = np.arange(COUNT) < 12
    base, twin = random_maps(0), random_maps(1)
    twin[missing] = 0
    maps = heat_maps(base, maps={"own": base, "twin": twin}, present={"twin": ~missing})
    numbers = Agreement().numbers(maps, maps)
    assert found(numbers, "unmatched", "control=twin").value == pytest.approx(0.1)
    control = found(numbers, "hcc", "control=twin")
    assert control.count == 108
    assert "12 of 120 boxes of the baseline have no counterpart" in control.reason
    assert (found(numbers, "hcc").count, found(numbers, "unmatched").value) == (COUNT, 0)


def test_a_box_is_paired_with_one_of_another_image() -> None:
    index = np.array([4, 4, 4, 9, 11, 11])
    own = index[:, None, None] * 10.0 + np.array([0, 1, 2, 0, 0, 1])[:, None, None]
    others = of_other_images(own.astype(np.float32), index)[:, 0, 0]
    assert ((others // 10).astype(int) != index).all()
    # All boxes of an image meet the same other image, in order.
    assert len(set((others[:3] // 10).tolist())) == 1
    single = heat_maps(random_maps(0, 3))
    numbers = Agreement().numbers(single, single)
    assert not [m for m in numbers if m.slice == "control=other-image"]


def test_boxes_that_do_not_belong_together_are_refused() -> None:
    maps = heat_maps(random_maps(0))
    with pytest.raises(DataError, match="the same boxes in the same order"):
        Agreement().numbers(heat_maps(random_maps(0), index=maps.index + 1), maps)
    other = heat_maps(random_maps(0), explained=np.ones(COUNT, np.int64))
    with pytest.raises(DataError, match="the same class of each box"):
        Agreement().numbers(other, maps)
    with pytest.raises(DataError, match="score must have one entry per box"):
        heat_maps(random_maps(0), score=np.ones(3, np.float32))
    with pytest.raises(DataError, match=r"present\.own must have one entry per box"):
        heat_maps(random_maps(0), present={"own": np.ones(3, bool)})
