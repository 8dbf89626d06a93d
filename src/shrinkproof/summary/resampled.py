"""What the uncertainty of a decision is made of: resampled numbers, and candidates in pairs.

Every candidate is seen through the same resampled data sets, and every pair on the same images. A
pair has two p-values per objective: that the first loses at least the tolerance to the second, and
that the first is no better. What they say together is for ``decision.uncertain`` to judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better, Undefined
from shrinkproof.selectors import Selector
from shrinkproof.statistics import (
    Interval,
    Replicated,
    Terms,
    calculated,
    difference,
    intervals,
    replicated_interval,
    replicates,
)
from shrinkproof.statistics.hypotheses import HypothesisTest, group_sums
from shrinkproof.statistics.superiority import no_worse, superiority
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import Resampled
from shrinkproof.summary.watched import Kept

# Shape suffixes: N images, R resampled data sets, C candidates, W watched selectors, T tested ones.

LEVELS: Final = (0.05, 0.025, 0.01, 0.005, 0.0025, 0.001)
"""One-sided errors at which an interval is turned into a p-value, rounded up to one of them."""

_LARGEST_LOSS: Final = {
    "accuracy.top1": 1.0,
    "accuracy.brier": 2.0,
    "accuracy.brier_top": 1.0,
    "robustness.error": 1.0,
    "robustness.mean_error": 1.0,
    "flips.negative": 1.0,
    "flips.positive": 1.0,
}
"""The most that two models can differ on one image, by metric; no other metric has a bound."""

Intervals = Callable[[float], Interval]
"""Confidence level -> interval."""

FEWEST_BEYOND: Final = 2
"""Fewest resampled data sets that must lie beyond the end of an interval."""


def resampled(run: Run) -> Resampled | None:
    """Return the watched numbers of all options on all resampled data sets, and their pair tests.

    Options are all candidates but controls. None where nothing decides or there are no images.
    """
    settings = run.settings
    split = run.splits.get(settings.deciding)
    if split is None or split.watch is None or not split.is_drawn:
        return None
    people = [c.key for c in run.candidates if c.role != "control"]
    values = np.full((len(split.weights), len(people), len(settings.watched)), np.nan, np.float32)
    for position, text in enumerate(settings.watched):
        _fill(values[:, :, position], [split.watch.number(text, key) for key in people], split)
    tested = tuple(text for text in settings.watched if text in settings.tolerances)
    pairs = [
        _compared(
            [split.watch.number(text, key) for key in people],
            Selector.parse(text),
            settings.tolerances[text],
            split,
        )
        for text in tested
    ]
    return _joined(tuple(people), settings.watched, tested, values, pairs, split.count)


@dataclass(eq=False)
class _Pairs:
    """The tests of one objective; the row is compared with the column.

    Attributes:
        no_worse: (C, C) p-values, NaN where none is stated.
        better: (C, C) p-values.
        spread: (C, C) standard deviation of the difference per independent image.
        why: (row, column) -> why no p-value is stated.
    """

    no_worse: NDArray[np.float64]
    better: NDArray[np.float64]
    spread: NDArray[np.float64]
    why: dict[tuple[int, int], str] = field(default_factory=dict)


def _fill(values_RC: NDArray[np.float32], kept: Sequence[Kept | Undefined], split: Split) -> None:
    """Write the resampled values of one number; means over images with one matrix product."""
    means = {
        position: item.values[:, 0]
        for position, item in enumerate(kept)
        if isinstance(item, Terms) and item.kind == "mean"
    }
    if means:
        columns_NC = np.stack([*means.values()], axis=1).astype(np.float32, copy=False)
        values_RC[:, [*means]] = (split.weights @ columns_NC) / split.weights.sum(
            axis=1, keepdims=True
        )
    for position, item in enumerate(kept):
        if position in means or isinstance(item, Undefined):
            continue
        found_R = _resampled_values(item, split)
        if len(found_R) == len(values_RC):
            values_RC[:, position] = found_R


def _resampled_values(item: Kept, split: Split) -> NDArray[Any]:
    if isinstance(item, Replicated):
        return item.values
    return replicates(item, split.weights) if isinstance(item, Terms) else item


def _sign_of(selector: Selector) -> float:
    known = described(selector.metric)
    return -1.0 if known is not None and known.better is Better.LOWER else 1.0


def _compared(
    kept: Sequence[Kept | Undefined], selector: Selector, tolerance: float, split: Split
) -> _Pairs:
    """Return the tests of every pair for one objective."""
    count, sign = len(kept), _sign_of(selector)
    largest = _LARGEST_LOSS.get(selector.metric, math.inf)
    empty_CC = np.full((count, count), np.nan)
    found = _Pairs(empty_CC, empty_CC.copy(), empty_CC.copy())
    for i in range(count):
        for j in range(i + 1, count):
            a, b = kept[i], kept[j]
            if isinstance(a, Terms) and isinstance(b, Terms) and a.kind == b.kind == "mean":
                gain_N = sign * difference(a, b).values[:, 0]
                _by_images(found, (i, j), gain_N, (tolerance, largest), split)
                continue
            stated = _intervals_of(a, b, split)
            if stated is None:
                found.why[i, j] = found.why[j, i] = _without_test(a, b)
            else:
                _by_intervals(found, (i, j), stated, sign, tolerance, len(split.weights))
    return found


def _intervals_of(a: Kept | Undefined, b: Kept | Undefined, split: Split) -> Intervals | None:
    """Return the intervals of the difference of two numbers without a test of their own, or None.

    Calibration errors have theirs; other numbers without terms per image have percentile intervals.
    """
    if isinstance(a, Terms) and isinstance(b, Terms):
        terms, weights = difference(a, b), split.weights
        return lambda level: intervals({"": terms}, weights, level, group_count=split.group_count)[
            ""
        ]
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        gap = calculated(np.subtract, a, b)
        return lambda level: replicated_interval(gap, split.units, level)
    return None


def _without_test(a: Kept | Undefined, b: Kept | Undefined) -> str:
    for item in (a, b):
        if isinstance(item, Undefined):
            return item.reason
    return "no test of a difference of such numbers has a measured error rate"


def _by_images(
    found: _Pairs,
    pair: tuple[int, int],
    gain_N: NDArray[np.float64],
    losses: tuple[float, float],
    split: Split,
) -> None:
    """Compare two means over the same images, both ways; by tolerance and largest loss."""
    assert split.images is not None, "there are predictions"
    groups, (tolerance, largest) = split.images.groups, losses
    spread = _spread(gain_N, groups)
    for (i, j), way in ((pair, 1.0), (pair[::-1], -1.0)):
        mean = way * float(gain_N.mean())
        found.spread[i, j] = spread
        # A p-value above one half shows nothing; 1 is a valid larger one and costs nothing.
        is_hopeless = mean <= -tolerance
        kept = (
            None
            if is_hopeless
            else no_worse(way * gain_N, tolerance, groups=groups, largest_loss=largest)
        )
        gained = None if mean <= 0 else superiority(way * gain_N, groups=groups)
        found.no_worse[i, j] = _p(kept)
        found.better[i, j] = _p(gained)
        why = [test.reason for test in (kept, gained) if test is not None and test.p is None]
        if why:
            found.why[i, j] = why[0]


def _p(test: HypothesisTest | None) -> float:
    if test is None:
        return 1.0
    return math.nan if test.p is None else test.p


def _spread(gain_N: NDArray[np.float64], groups: NDArray[Any] | None) -> float:
    """Return the standard deviation per image; with groups, that of equally many free images."""
    influence_G = group_sums(gain_N - gain_N.mean(), groups)
    count = len(influence_G)
    if count < 2:
        return math.nan
    return math.sqrt(count / (count - 1) * float((influence_G**2).sum()) / len(gain_N))


def _by_intervals(
    found: _Pairs,
    pair: tuple[int, int],
    interval: Intervals,
    sign: float,
    tolerance: float,
    count: int,
) -> None:
    """Compare two numbers by intervals of their difference at several levels, both ways.

    ``count`` is the number of resampled data sets.
    """
    i, j = pair
    for matrix in (found.no_worse, found.better):
        matrix[i, j] = matrix[j, i] = 1.0
    for error in LEVELS:
        if error * count < FEWEST_BEYOND:
            break
        stated = interval(1 - 2 * error)
        if stated.low is None or stated.high is None:
            for matrix in (found.no_worse, found.better):
                matrix[i, j] = matrix[j, i] = math.nan
            found.why[i, j] = found.why[j, i] = stated.reason
            return
        ends = sorted((sign * stated.low, sign * stated.high))
        is_shown = False
        for place, least in (((i, j), ends[0]), ((j, i), -ends[1])):
            is_kept = least > -tolerance if tolerance else least > 0
            for matrix, is_accepted in ((found.no_worse, is_kept), (found.better, least > 0)):
                if is_accepted:
                    matrix[place] = error
                    is_shown = True
        if not is_shown:
            return


def _joined(
    people: tuple[str, ...],
    watched: tuple[str, ...],
    tested: tuple[str, ...],
    values: NDArray[np.float32],
    pairs: Sequence[_Pairs],
    images: int,
) -> Resampled:
    texts = tuple(dict.fromkeys(["", *(why for found in pairs for why in found.why.values())]))
    shape = (len(tested), len(people), len(people))
    reasons = np.zeros(shape, dtype=np.int32)
    for position, found in enumerate(pairs):
        for (i, j), why in found.why.items():
            reasons[position, i, j] = texts.index(why)
    no_worse, better, spread = (
        np.array([getattr(found, name) for found in pairs], dtype=np.float64).reshape(shape)
        for name in ("no_worse", "better", "spread")
    )
    return Resampled(
        people,
        watched,
        tested,
        values,
        no_worse=no_worse,
        better=better,
        spread=spread,
        reasons=reasons,
        texts=texts,
        images=images,
    )
