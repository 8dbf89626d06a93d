"""Logits in half precision: what stays exactly, and how far the rest may move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shrinkproof.metrics import METRICS
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.predictions.half import LARGE, as_stored, decode, encode, is_large, rounded
from shrinkproof.protocols import Undefined

LARGEST = 65_504.0
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def neighbors(draw: st.DrawFn) -> np.ndarray:
    """Logits of any size that are at most a few representable numbers apart."""
    start = np.float32(draw(st.floats(-(2.0**120), 2.0**120, width=32)))
    steps = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    values = []
    for count in steps:
        value = start
        for _ in range(count):
            value = np.nextafter(value, np.float32(-np.inf))
        values.append(value)
    return np.array([values], dtype=np.float32)


LOGITS = st.one_of(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FLOATS),
    hnp.arrays(np.float32, (4, 5), elements=st.floats(-30, 30, width=32)),
    neighbors(),
)


@settings(max_examples=40)
@given(LOGITS)
@example(np.full((1, 1), np.finfo(np.float32).min))
def test_the_largest_logits_stay_exactly_and_no_other_one_becomes_one(logits: np.ndarray) -> None:
    again = decode(encode(logits))
    top = logits.max(axis=1, keepdims=True)
    assert np.isfinite(again).all()
    np.testing.assert_array_equal(again.max(axis=1, keepdims=True), top)
    np.testing.assert_array_equal(again == top, logits == top)
    np.testing.assert_array_equal(again.argmax(axis=1), logits.argmax(axis=1))


@settings(max_examples=40)
@given(LOGITS)
def test_order_and_ties_stay(logits: np.ndarray) -> None:
    again = decode(encode(logits))
    order = np.argsort(logits, axis=1)
    assert (np.diff(np.take_along_axis(again, order, axis=1), axis=1) >= 0).all()
    first, second = logits[:, :, None], logits[:, None, :]
    is_tied = first == second
    assert (again[:, :, None] == again[:, None, :])[is_tied].all()


@settings(max_examples=40)
@example(np.array([[7.4703771e-11, 7.4703764e-11]], np.float32))
@given(LOGITS)
def test_no_logit_moves_further_than_stated(logits: np.ndarray) -> None:
    again = decode(encode(logits)).astype(np.float64)
    exact = logits.astype(np.float64)
    top = exact.max(axis=1, keepdims=True)
    below = np.minimum(top - exact, LARGEST)
    # What comes back is rounded once, and may be larger than both where both are near 0.
    single = 2.0**-23 * np.maximum(np.maximum(np.abs(exact), np.abs(top)), np.abs(again))
    moved = np.abs(again - (top - below))
    assert (moved <= np.maximum(below / 2048, 2.0**-24) + single).all()


@settings(max_examples=40)
@given(LOGITS)
def test_what_was_rounded_once_stays(logits: np.ndarray) -> None:
    again = decode(encode(logits))
    np.testing.assert_array_equal(decode(encode(again)), again)


def test_rows_by_hand() -> None:
    logits = np.array([[3.0, 3.0, -1.0], [1.0, 1.0 - 2.0**-24, -7e4]], dtype=np.float32)
    rows = encode(logits)
    assert rows.dtype.itemsize == 4 + 2 * 3
    np.testing.assert_array_equal(rows["top"], [3, 1])
    np.testing.assert_array_equal(rows["below"], [[0, 0, -4], [0, -(2.0**-24), -LARGEST]])
    np.testing.assert_array_equal(
        decode(rows), np.float32([[3, 3, -1], [1, 1 - 2.0**-24, 1 - LARGEST]])
    )


def test_only_many_logits_are_rounded() -> None:
    assert LARGE * 4 == 64 * 2**20
    assert not is_large(LARGE // 1000, 1000)
    assert is_large(LARGE // 1000 + 1, 1000)
    few = some(20, 10, 5.0)
    assert as_stored(few) is few
    assert rounded(few, count=20) is few
    part = rounded(few, count=LARGE)
    np.testing.assert_array_equal(part.logits, decode(encode(few.logits)))
    assert part.target is few.target


def some(count: int, num_classes: int, confidence: float) -> ClassificationPredictions:
    """Logits as of a network: a heavy tail of classes and mistakes that look like hits."""
    draws = np.random.default_rng(num_classes)
    target = draws.integers(0, num_classes, count)
    shown = np.where(draws.random(count) < 0.75, target, draws.integers(0, num_classes, count))
    logits = draws.standard_normal((count, num_classes)) + draws.standard_normal((count, 1)) * 5
    logits[np.arange(count), shown] += draws.gamma(4.0, 1.0, count)
    return ClassificationPredictions(
        (confidence * logits).astype(np.float32), target, np.arange(count)
    )


EXACT = ("accuracy.top1", "accuracy.worst_class")
BOUNDS = {"accuracy.brier": 2e-6, "accuracy.nll": 1e-4, "calibration.ece": 2e-4}
OTHERS = 1e-3
"""An image whose confidence stands at the edge of a bin may change into the next one."""


def check_metrics(num_classes: int, confidence: float) -> None:
    exact = some(10_000, num_classes, confidence)
    stored = rounded(exact, count=LARGE)
    assert (stored.logits != exact.logits).any()
    for name in (n for n in METRICS if not n.startswith("detection.") and METRICS.get(n).is_fast):
        metric = METRICS.create(name)
        first, second = metric(exact), metric(stored)
        assert not isinstance(first, Undefined), name
        if name in EXACT:
            assert first == second, name
        assert abs(first - second) <= BOUNDS.get(name, OTHERS), name


def test_metrics_hardly_change() -> None:
    check_metrics(10, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [10, 100, 1000])
@pytest.mark.parametrize("confidence", [0.3, 1.0, 5.0])
def test_metrics_hardly_change_however_many_classes_and_however_confident(
    num_classes: int, confidence: float
) -> None:
    check_metrics(num_classes, confidence)
