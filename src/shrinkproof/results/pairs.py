"""Two candidates side by side: differences and ratios, paired where the images are the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.detection.names import MPC, MPC_OF_BASELINE, RPC, THRESHOLD
from shrinkproof.metrics.names import CHANGE, bare_name
from shrinkproof.metrics.spelling import metric_of, name_of
from shrinkproof.predictions import DetectionPredictions, Predictions
from shrinkproof.records import Condition
from shrinkproof.results.pixels import (
    is_other_data,
    other_corruption,
    other_images,
    other_pixels,
)
from shrinkproof.results.sides import Side
from shrinkproof.selectors import Selector
from shrinkproof.statistics import (
    BOOTSTRAP,
    Interval,
    Terms,
    bootstrap_weights,
    calculated,
    difference,
    group_count,
    interval,
    replicated_interval,
)
from shrinkproof.statistics.unpaired import unpaired_interval
from shrinkproof.table import Number

# Shape suffixes: N images, R bootstrap replicates.

LEVEL: Final = 0.95
"""Confidence of stored intervals, and of all others unless asked otherwise."""

EXACT_COUNT: Final = "counted"
"""Method of a number without uncertainty: bytes and parameters are counted, not sampled."""

_NO_INTERVAL: Final = Interval()
_PAIRED: Final = ("mean", "absolute-sum")
_COSTS: Final = "cost."
_AT_THRESHOLD: Final = "boxes."
_OF_PRECISION: Final = (MPC, RPC, MPC_OF_BASELINE)
_TIMED: Final = ("cost.latency_", "cost.memory_")

Combine = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """A difference or a ratio of two numbers.

    Attributes:
        value: the number; None where there is none.
        interval: its interval.
        is_paired: True where both numbers are about the same images.
        reason: why there is no number, or what a reader must know about it.
    """

    value: float | None
    interval: Interval = _NO_INTERVAL
    is_paired: bool = False
    reason: str = ""


class Pair:
    """Two candidates, of one run or of two.

    Args:
        first: what is compared with, usually the older or larger one.
        second: what is compared.

    Attributes:
        first: what is compared with.
        second: what is compared.
    """

    def __init__(self, first: Side, second: Side) -> None:
        self.first = first
        self.second = second
        self._pixels: dict[Condition, str] = {}
        self._kinds: dict[Condition, str] = {}
        self._weights: dict[int, NDArray[np.float32]] = {}

    @cached_property
    def other_images(self) -> str:
        """Why no number can be paired; empty where the images are the same."""
        if self.first.images is None or self.second.images is None:
            missing = [s.label for s in (self.first, self.second) if s.images is None]
            return f"only numbers are known of {' and '.join(missing)}, no predictions"
        found = other_images(self.first.results, self.second.results)
        if found:
            return found
        own, other = self.first.images, self.second.images
        if not np.array_equal(own.index, other.index) or not _same_truth(own, other):
            return "the stored predictions are about other images"
        return ""

    @cached_property
    def shared(self) -> list[Condition]:
        """The corrupted conditions of both."""
        others = set(self.second.conditions)
        return [c for c in self.first.conditions if c in others and not c.is_clean]

    def unpaired(self, condition: Condition) -> str:
        """Return why numbers of a condition are not paired; empty where they are."""
        if self.other_images:
            return self.other_images
        if condition not in self._pixels:
            self._pixels[condition] = other_pixels(
                self.first.results, self.second.results, condition
            )
        return self._pixels[condition]

    def apart(self, selector: Selector) -> str:
        """Return why a number is not about the same images in both; empty where it is."""
        own, other = self.first.places(selector), self.second.places(selector)
        if own != other:
            return f"{selector}: the two runs average other conditions"
        return next((why for condition in own if (why := self.unpaired(condition))), "")

    def foreign(self, selector: Selector) -> str:
        """Return why two numbers must not be compared at all; empty where they may be.

        Other images of the same data are another sample of the same thing. Other data, other
        conditions, and the same conditions made in another way are another thing.
        """
        runs = self.first.results, self.second.results
        if is_other_data(*runs):
            sources = (r.data["splits"].get(r.printing, {}).get("source", "?") for r in runs)
            return f"the runs are about other data, {' and '.join(map(str, sources))}"
        quality = [r.spec.quality for r in runs]
        if bare_name(selector.metric) in _OF_PRECISION and quality[0] != quality[1]:
            return f"{selector}: the runs make it of {' and '.join(quality)}"
        if selector.metric.startswith(_AT_THRESHOLD):
            threshold = Selector(THRESHOLD)
            first, second = (s.number(threshold).value for s in (self.first, self.second))
            if first != second:
                return f"{selector}: boxes are counted from other scores, {first} and {second}"
        own, other = self.first.places(selector), self.second.places(selector)
        if own != other:
            return f"{selector}: the two runs average other conditions"
        return next((why for condition in own if (why := self.other_corruption(condition))), "")

    def other_corruption(self, condition: Condition) -> str:
        """Return why a condition is another one in both runs; empty where it is the same."""
        if condition not in self._kinds:
            runs = self.first.results, self.second.results
            self._kinds[condition] = other_corruption(*runs, condition)
        return self._kinds[condition]

    def is_one_machine(self, metric: str) -> bool:
        """Return whether a time is of one machine and runtime in both.

        What was measured elsewhere has no description, so it is one machine in its own run only.
        """
        own, other = (side.machines(metric) for side in (self.first, self.second))
        if own != other:
            return False
        stores = [side.results.store for side in (self.first, self.second)]
        if stores[0].path.resolve() == stores[1].path.resolve():
            return True
        known = stores[0].environments()
        return all("cpu" in (known.get(key) or {}) for key in own)

    def weights(self, side: Side) -> NDArray[np.float32]:
        """Return how often each image stands in each resampled data set, (R, N).

        Both candidates get the same matrix where their images are the same.
        """
        side = side if self.other_images else self.first
        if id(side) not in self._weights:
            images, settings = side.images, side.results.settings
            assert images is not None, "there are terms, so there are predictions"
            self._weights[id(side)] = bootstrap_weights(
                len(images),
                groups=images.groups,
                replicates=settings.replicates,
                seed=settings.seed,
            )
        return self._weights[id(side)]

    def stated(self, side: Side, terms: Terms, part: str = "", level: float = LEVEL) -> Interval:
        """Return the interval of a number of one candidate, or of a paired one, from its terms."""
        weights, images = self.weights(side), side.images
        assert images is not None, "there are terms, so there are predictions"
        groups = images.groups
        if part:
            positions = side.positions(part)
            assert positions is not None, "there are terms of this part"
            weights = weights[:, positions]
            groups = None if groups is None else groups[positions]
        return interval(terms, weights, level, group_count=group_count(groups))

    def alone(self, side: Side, selector: Selector, level: float = LEVEL) -> Interval:
        """Return the interval of one candidate's own number."""
        number = side.number(selector)
        if number.value is None:
            return Interval(reason=number.reason)
        if is_counted(selector.metric):
            return Interval(number.value, number.value, EXACT_COUNT)
        if level == LEVEL and number.low is not None:
            return Interval(number.low, number.high, "stored")
        terms = side.terms(selector)
        if terms is not None:
            return self.stated(side, terms, selector.part, level)
        if number.low is not None:
            return Interval(reason=f"its interval is known at {100 * LEVEL:g} % only")
        return Interval(reason=number.reason or f"{selector} has no interval")

    def change(self, selector: Selector, level: float = LEVEL) -> Compared:
        """Return the second candidate's number minus the first's."""
        return self._combined(selector, level, _minus, self._difference)

    def ratio(self, selector: Selector, level: float = LEVEL) -> Compared:
        """Return the second candidate's number divided by the first's."""
        own, other = self.first.number(selector), self.second.number(selector)
        if own.value is not None and other.value is not None:
            if own.value <= 0:
                reason = f"a ratio to {own.value:g}, the value of {self.first.label}, says nothing"
                return Compared(None, reason=reason)
            if other.value < 0:
                return Compared(None, reason=f"a ratio of the negative {other.value:g}")
        return self._combined(selector, level, lambda b, a: b / a, self._quotient)

    def _combined(
        self,
        selector: Selector,
        level: float,
        combine: Combine,
        joined: Callable[[Selector, float], tuple[Interval, bool]],
    ) -> Compared:
        own, other = self.first.number(selector), self.second.number(selector)
        for side, number in ((self.first, own), (self.second, other)):
            if number.value is None:
                return Compared(None, reason=f"{side.label}: {number.reason}")
        assert own.value is not None, "looked at above"
        assert other.value is not None, "looked at above"
        value = combine(other.value, own.value)
        if selector.metric.startswith(_COSTS):
            return self._cost(selector, value, level, is_ratio=joined == self._quotient)
        if foreign := self.foreign(selector):
            return Compared(None, reason=foreign)
        found, is_paired = joined(selector, level)
        why = "" if is_paired else self.apart(selector)
        reason = "; ".join(filter(None, (f"not paired: {why}" if why else "", found.reason)))
        return Compared(value, found, is_paired, reason)

    def _cost(self, selector: Selector, value: float, level: float, *, is_ratio: bool) -> Compared:
        if is_counted(selector.metric):
            return Compared(value, Interval(value, value, EXACT_COUNT))
        if not self.is_one_machine(selector.metric):
            reason = f"{selector} was not measured on the same machine and runtime"
            return Compared(None, reason=reason)
        own, other = (self.alone(s, selector, level) for s in (self.first, self.second))
        values = self.first.number(selector).value, self.second.number(selector).value
        found = _between(values[1], other, values[0], own, is_ratio=is_ratio)
        return Compared(value, found, reason=found.reason)

    def _of_boxes(
        self, selector: Selector, level: float, combine: Combine
    ) -> tuple[Interval, bool]:
        """Return the interval of a number that is computed anew on each resampled data set."""
        if why := self.apart(selector):
            return Interval(reason=f"no unpaired interval of {selector} has been tested"), not why
        weights, images = self.weights(self.first), self.first.images
        assert images is not None, "the images are the same in both"
        units = group_count(images.groups) or len(images)
        tested = self._change_interval(selector, weights, units)
        if tested is not None and level == LEVEL and combine is _minus:
            return tested, True
        own, other = (side.replicated(selector, weights) for side in (self.first, self.second))
        if own is None or other is None:
            return self._stored_change(selector, level, combine), True
        return replicated_interval(calculated(combine, other, own), units, level), True

    def _stored_change(self, selector: Selector, level: float, combine: Combine) -> Interval:
        """Return the interval that the run has stored of a change against the baseline."""
        is_stored = (
            combine is _minus
            and level == LEVEL
            and self.first.results is self.second.results
            and self.first.candidate.role == "baseline"
            and self.first.candidate.model == self.second.candidate.model
        )
        if is_stored:
            found = self.second.number(replace(selector, metric=CHANGE + selector.metric))
            if found.low is not None:
                return Interval(found.low, found.high, "stored")
            if found.reason:
                return Interval(reason=found.reason)
        return Interval(reason=f"no interval of a change of {selector} has been tested")

    def _change_interval(
        self, selector: Selector, weights: NDArray[np.float32], units: int
    ) -> Interval | None:
        """Return the interval that a metric has for its change; None where it has none."""
        places = self.first.places(selector)
        metric: Any = metric_of(selector.metric) if name_of(selector.metric) in METRICS else None
        if selector.part or len(places) != 1 or not hasattr(metric, "change_interval"):
            return None
        own, other = (side.predictions(places[0]) for side in (self.first, self.second))
        if own is None or other is None:
            return None
        found: Interval = metric.change_interval(other, own, weights, units)
        return found

    def _difference(self, selector: Selector, level: float) -> tuple[Interval, bool]:
        if isinstance(self.first.images, DetectionPredictions):
            return self._of_boxes(selector, level, _minus)
        own, other = self.first.terms(selector), self.second.terms(selector)
        if own is None or other is None:
            return Interval(reason=f"{selector} is known as a number only, not per image"), False
        if not self.apart(selector):
            if own.kind != other.kind or own.kind not in _PAIRED:
                return Interval(reason="no interval of this change has a tested coverage"), True
            return self.stated(self.first, difference(other, own), selector.part, level), True
        return self._apart(selector, own, other, level, is_ratio=False), False

    def _quotient(self, selector: Selector, level: float) -> tuple[Interval, bool]:
        if isinstance(self.first.images, DetectionPredictions):
            return self._of_boxes(selector, level, lambda b, a: b / a)
        own, other = self.first.terms(selector), self.second.terms(selector)
        if own is None or other is None:
            return Interval(reason=f"{selector} is known as a number only, not per image"), False
        if not self.apart(selector):
            if own.kind != "mean" or other.kind != "mean":
                return Interval(reason="no interval of this ratio has a tested coverage"), True
            carried = self.stated(self.first, difference(other, own), selector.part, level)
            if carried.method != BOOTSTRAP:
                # A ratio rests on the images that differ, and resampling needs enough of them.
                reason = carried.reason or "too few images differ for an interval of a ratio"
                return Interval(reason=reason), True
            both = np.concatenate([other.values, own.values], axis=1).astype(np.float64)
            terms = Terms(both, kind="mean-of-ratios")
            return self.stated(self.first, terms, selector.part, level), True
        return self._apart(selector, own, other, level, is_ratio=True), False

    def _apart(
        self, selector: Selector, own: Terms, other: Terms, level: float, *, is_ratio: bool
    ) -> Interval:
        if own.kind == "absolute-sum" or other.kind == "absolute-sum":
            return Interval(reason="no unpaired interval of a calibration error has been tested")
        numbers = self.first.number(selector), self.second.number(selector)
        ends = (
            self.stated(self.first, own, selector.part, level),
            self.stated(self.second, other, selector.part, level),
        )
        return _between(numbers[1].value, ends[1], numbers[0].value, ends[0], is_ratio=is_ratio)


def _minus(b: Any, a: Any) -> Any:
    return b - a


def _same_truth(a: Predictions, b: Predictions) -> bool:
    """Return whether the same is true of the images of both."""
    if isinstance(a, DetectionPredictions):
        return isinstance(b, DetectionPredictions) and a.objects.tobytes() == b.objects.tobytes()
    return not isinstance(b, DetectionPredictions) and np.array_equal(a.target, b.target)


def is_counted(metric: str) -> bool:
    """Return whether a number is counted, not sampled: bytes, parameters, operations."""
    return metric.startswith(_COSTS) and not metric.startswith(_TIMED)


def trusted(number: Number) -> str:
    """Return why a number must not pass any rule; empty where it may."""
    if number.value is None:
        return number.reason or f"it is {number.status}"
    return f"it is contaminated: {number.reason}" if number.status == "contaminated" else ""


def _between(
    b: float | None, of_b: Interval, a: float | None, of_a: Interval, *, is_ratio: bool
) -> Interval:
    """Return the interval of b - a, or of b / a on the logarithmic scale, of two samples."""
    assert a is not None, "the caller has looked"
    assert b is not None, "the caller has looked"
    if not is_ratio:
        return unpaired_interval(b, of_b, a, of_a)
    ends = (of_a.low, of_a.high, of_b.low, of_b.high)
    if any(end is None for end in ends):
        return unpaired_interval(b, of_b, a, of_a)
    if min(a, b, *(end for end in ends if end is not None)) <= 0:
        return Interval(reason="an interval reaches 0, so their ratio has none")
    found = unpaired_interval(math.log(b), _logged(of_b), math.log(a), _logged(of_a))
    assert found.low is not None, "both have intervals"
    assert found.high is not None, "both have intervals"
    return Interval(math.exp(found.low), math.exp(found.high), found.method)


def _logged(found: Interval) -> Interval:
    assert found.low is not None, "the caller has looked"
    assert found.high is not None, "the caller has looked"
    return Interval(math.log(found.low), math.log(found.high), found.method)
