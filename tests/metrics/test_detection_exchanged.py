from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import DataError
from shrinkproof.metrics.detection.exchanged import exchanged
from shrinkproof.protocols import Undefined

from ..boxes_builder import detections_of, objects_of
from ..random_boxes import random_boxes

HERE, HALF, NEAR = (0, 0, 20, 20), (0, 0, 20, 10), (2, 0, 22, 20)
THERE, FAR = (40, 0, 60, 20), (60, 60, 80, 80)
TRUTH = objects_of([[(HERE, 0), (THERE, 1)], [(FAR, 2)]])


def seen(*images):
    return detections_of(images, TRUTH)


def values(found):
    return {name: rate.value() for name, rate in found.rates().items()}


def test_every_kind_of_exchange_by_hand():
    baseline = seen(
        [(HERE, 0, 0.9), (THERE, 1, 0.8), (FAR, 0, 0.7)], [(FAR, 2, 0.6), (HERE, 0, 0.1)]
    )
    candidate = seen([(NEAR, 0, 0.8), (THERE, 2, 0.7)], [(HERE, 1, 0.9), (FAR, 2, 0.2)])
    found = exchanged(candidate, baseline, 0.5)
    assert found.kept.tolist() == [True, False, False, False, False]
    assert found.flipped.tolist() == [False, True, False, False, False]
    assert found.lost.tolist() == [False, False, True, True, False]
    assert found.new.tolist() == [False, False, True, False]
    assert found.partner.tolist() == [0, 1, -1, -1, -1]
    assert found.was_right.tolist() == [True, True, False, True, False]
    assert found.was_wrong.tolist() == [False, False, True, False, False]
    assert values(found) == {
        "kept": 1 / 4,
        "flipped": 1 / 4,
        "gone": 2 / 4,
        "lost": 1 / 3,
        "lost_wrong": 1,
        "new": 1 / 2,
        "new_right": 0,
        "new_wrong": 1 / 2,
    }
    assert found.rates()["lost"].part.tolist() == [0, 1]
    assert found.rates()["lost"].whole.tolist() == [2, 1]


def test_boxes_of_the_same_class_are_paired_first():
    # The candidate sees two classes in one place; the box of the other class fits better.
    baseline = seen([(HERE, 0, 0.9)], [])
    candidate = seen([(HERE, 1, 0.9), (NEAR, 0, 0.8)], [])
    found = exchanged(candidate, baseline, 0.5)
    assert found.partner.tolist() == [1]
    assert found.kept.tolist() == [True]
    assert found.new.tolist() == [True, False]


def test_pairs_are_made_by_falling_overlap():
    baseline = seen([(HALF, 0, 0.9), (HERE, 0, 0.8)], [])
    candidate = seen([(HERE, 0, 0.9)], [])
    found = exchanged(candidate, baseline, 0.5)
    assert found.partner.tolist() == [-1, 0]
    assert found.lost.tolist() == [True, False]


@pytest.mark.parametrize(("iou", "is_kept"), [(0.5, True), (0.51, False)])
def test_the_overlap_must_be_reached(iou, is_kept):
    found = exchanged(seen([(HALF, 0, 0.9)], []), seen([(HERE, 0, 0.9)], []), 0.5, iou)
    assert found.kept.tolist() == [is_kept]


def test_boxes_in_crowds_are_neither_right_nor_wrong():
    truth = objects_of([[((0, 0, 90, 90), 0)]], crowd=[(0, 0)])
    baseline = detections_of([[(HERE, 0, 0.9)]], truth)
    found = exchanged(detections_of([[(FAR, 0, 0.9)]], truth), baseline, 0.5)
    assert values(found)["gone"] == 1
    assert values(found)["lost"] == Undefined("no box of the baseline is right")
    assert values(found)["lost_wrong"] == Undefined("no box of the baseline is wrong")
    assert (values(found)["new"], values(found)["new_right"], values(found)["new_wrong"]) == (
        1,
        0,
        0,
    )


def test_nothing_above_the_threshold_is_undefined_with_a_reason():
    found = exchanged(seen([], []), seen([(HERE, 0, 0.4)], []), 0.5)
    assert values(found)["kept"] == Undefined("no box of the baseline reaches the threshold")
    assert values(found)["new"] == 0
    nothing = detections_of([], objects_of([]))
    assert values(exchanged(nothing, nothing, 0.5))["new"] == Undefined("there are no images")


def test_other_images_and_objects_are_refused():
    baseline = seen([(HERE, 0, 0.9)], [])
    with pytest.raises(DataError, match="got 1 and 2 images"):
        exchanged(baseline.take(np.array([0])), baseline, 0.5)
    with pytest.raises(DataError, match="got index 1 and 0 at position 0"):
        exchanged(baseline.take(np.array([1, 0])), baseline, 0.5)
    other = replace(baseline, objects=objects_of([[(HERE, 1)], []]))
    with pytest.raises(DataError, match="same objects, got other annotations"):
        exchanged(other, baseline, 0.5)
    again = replace(baseline, objects=TRUTH[np.array([0, 1])])
    assert values(exchanged(again, baseline, 0.5))["kept"] == 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_detector_keeps_all_boxes_of_its_own(seed, threshold):
    predictions = random_boxes(seed, images=4)
    found = exchanged(predictions, predictions, threshold)
    assert np.array_equal(found.kept, predictions.score >= threshold)
    assert not found.new.any()
    assert not (found.flipped | found.lost).any()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 20.0]), st.floats(0, 0.9))
def test_pairs_equal_the_loop_over_pairs(seed, grid, threshold):
    baseline = random_boxes(seed, images=3, grid=grid)
    draws = np.random.default_rng(seed)
    shift = draws.normal(0, 4, (len(baseline.score), 1)) * (grid == 0)
    candidate = replace(
        baseline,
        boxes=(baseline.boxes + shift).astype(np.float32),
        label=np.where(draws.random(len(shift)) < 0.7, baseline.label, 0),
    )
    found = exchanged(candidate, baseline, threshold)
    assert found.partner.tolist() == slowly(candidate, baseline, threshold)
    counts = baseline.score >= threshold
    parts = found.kept.astype(int) + found.flipped + found.lost
    assert np.array_equal(parts, counts)
    pairs = found.partner[found.partner >= 0]
    assert len(np.unique(pairs)) == len(pairs)
    assert found.new.sum() == (candidate.score >= threshold).sum() - len(pairs)


def slowly(candidate, baseline, threshold):
    from shrinkproof.metrics.detection.boxes import pairwise_iou

    overlap = pairwise_iou(baseline.boxes, candidate.boxes)
    pairs = [
        (baseline.label[b] != candidate.label[d], -overlap[b, d], b, d)
        for b in np.flatnonzero(baseline.score >= threshold).tolist()
        for d in np.flatnonzero(candidate.score >= threshold).tolist()
        if overlap[b, d] >= 0.5 and baseline.image[b] == candidate.image[d]
    ]
    partner, taken = [-1] * len(baseline.score), set()
    for _, _, b, d in sorted(pairs):
        if partner[b] < 0 and d not in taken:
            partner[b] = d
            taken.add(d)
    return partner
