"""Recall of each class, what changed in it, and the class that lost most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.names import CHANGE
from shrinkproof.metrics.robustness import mean_error, mean_terms, without_clean
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Candidate
from shrinkproof.statistics import (
    BOOTSTRAP,
    EXACT_PAIRED,
    Interval,
    Terms,
    clopper_pearson,
    difference,
    estimate,
    group_count,
    intervals,
)
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Images, Split
from shrinkproof.summary.values import CORRUPTED, Derived, Settings, measured

# Shape suffixes: N images, P images of one class, R bootstrap replicates.

RECALL: Final = "accuracy.recall"
WORST: Final = "flips.worst_class_change"
LEVEL: Final = 0.95

FEWEST_BEYOND: Final = 2
"""Fewest resampled data sets that must lie beyond each end of an interval for all classes."""

Right = Mapping[str, NDArray[np.float64]]
"""``clean`` or ``corrupted`` -> (N,) share of the conditions in which each image is right."""


@dataclass(frozen=True, slots=True, eq=False)
class _Class:
    """The images of one class.

    Attributes:
        name: name of the class.
        positions: (P,) where they stand.
        weights: (R, P) their bootstrap weights.
        group_count: number of their groups; None where images are independent.
    """

    name: str
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]
    group_count: int | None

    @property
    def part(self) -> str:
        """The slice as records spell it."""
        return f"class={self.name}"


def recalls(run: Run, split: Split, candidate: Candidate) -> Iterator[Derived]:
    """Yield recall per class, its change, and the class that lost most; clean and corrupted.

    On the split whose numbers are printed; on the one that decides recall alone, where a rule asks
    for it. Not under each condition: there would be as many numbers as images.
    """
    images = split.images
    own = _right(split, candidate.key)
    is_printed = split.name == run.printing
    if images is None or not own or not (is_printed or _is_asked(run, split)):
        return
    baseline = run.baseline(candidate)
    is_compared = is_printed and candidate.role != "baseline"
    other = _right(split, baseline.key) if is_compared else {}
    changed: dict[str, dict[str, Terms]] = {place: {} for place in own if place in other}
    classes = list(_classes(split, images))
    for one in classes:
        terms = {(RECALL, place): _of_class(right, one) for place, right in own.items()}
        for place, found in changed.items():
            found[one.name] = difference(terms[RECALL, place], _of_class(other[place], one))
            terms[CHANGE + RECALL, place] = found[one.name]
        yield from _rows(split, candidate.key, one, terms)
    for place, found in changed.items():
        yield _worst(split, candidate.key, place, classes, found)


def _is_asked(run: Run, split: Split) -> bool:
    """Return whether a rule of the decision is about one class."""
    settings = run.settings
    named = any(text.startswith(f"{RECALL}{{") for text in settings.watched)
    return named and split.name == settings.deciding


def class_names(settings: Settings, num_classes: int) -> tuple[str, ...]:
    """Return the names of the classes, their numbers where the data name none."""
    if len(settings.classes) == num_classes:
        return settings.classes
    return tuple(map(str, range(num_classes)))


def _right(split: Split, key: str) -> Right:
    totals = split.totals.get(key)
    if totals is None:
        return {}
    found = {}
    corrupted = without_clean(totals.errors)
    if CLEAN in totals.errors:
        found["clean"] = 1 - totals.errors[CLEAN].astype(np.float64)
    if corrupted and split.is_complete(key):
        found[CORRUPTED] = 1 - mean_error(corrupted)
    return {place: right for place, right in found.items() if len(right) == split.count}


def _classes(split: Split, images: Images) -> Iterator[_Class]:
    order = np.argsort(images.target, kind="stable")
    ends = np.cumsum(np.bincount(images.target, minlength=images.num_classes))
    names = class_names(split.settings, images.num_classes)
    for name, positions in zip(names, np.split(order, ends[:-1]), strict=True):
        groups = None if images.groups is None else images.groups[positions]
        yield _Class(name, positions, split.weights[:, positions], group_count(groups))


def _of_class(right_N: NDArray[np.float64], one: _Class) -> Terms:
    return mean_terms(right_N[one.positions])


def _rows(
    split: Split, candidate: str, one: _Class, terms: Mapping[tuple[str, str], Terms]
) -> Iterator[Derived]:
    count = len(one.positions)
    if not count:
        reason = f"no image of the {split.name} split is of class {one.name}"
        for metric, place in terms:
            nothing = measured(metric, Undefined(reason), part=one.part)
            yield Derived(candidate, split.name, place, 0, split.form, nothing)
        return
    labeled = {f"{metric}@{place}": item for (metric, place), item in terms.items()}
    stated = intervals(labeled, one.weights, LEVEL, group_count=one.group_count)
    for (metric, place), item in terms.items():
        value = measured(metric, item, stated[f"{metric}@{place}"], count=count, part=one.part)
        yield Derived(candidate, split.name, place, 0, split.form, value)


def _worst(
    split: Split,
    candidate: str,
    place: str,
    classes: list[_Class],
    changed: Mapping[str, Terms],
) -> Derived:
    """Return the smallest change of a class, with an interval that holds for all classes at once.

    If every class has an interval at the level 1 - 0.05 / K, all K hold together with 95 %
    (Bonferroni), and the smallest true change lies between the smallest lower and the smallest
    upper end.
    """
    filled = [one for one in classes if len(one.positions)]
    values = {one.name: estimate(changed[one.name]) for one in filled}
    name = min(values, key=lambda name: values[name])
    caveat = f"class {name}, the smallest change of {len(filled)} classes"
    if len(filled) > 1:
        caveat += ": noise alone makes the smallest of several negative; its interval is for all"
    found = [_at_once(split, one, changed[one.name], len(filled), place) for one in filled]
    broken = next((item for item in found if not item.is_stated), None)
    stated = broken or Interval(
        min(item.low for item in found if item.low is not None),
        min(item.high for item in found if item.high is not None),
        found[0].method,
    )
    value = measured(WORST, values[name], stated, count=split.count, caveat=caveat)
    return Derived(candidate, split.name, place, 0, split.form, value)


def _at_once(split: Split, one: _Class, terms: Terms, count: int, place: str) -> Interval:
    """Return the interval of one of several classes, all of which shall hold at once."""
    level = 1 - (1 - LEVEL) / count
    if place == "clean" and one.group_count is None:
        return _exact(terms, level)
    if len(split.weights) * (1 - level) / 2 < FEWEST_BEYOND:
        return Interval(
            reason=f"{len(split.weights)} resampled data sets are too few for an interval that "
            f"holds for {count} classes at once"
        )
    found = intervals({"": terms}, one.weights, level, group_count=one.group_count)[""]
    if found.is_stated:
        return Interval(found.low, found.high, BOOTSTRAP)
    return Interval(reason=f"class {one.name}: {found.reason}")


def _exact(terms: Terms, level: float) -> Interval:
    """Return the exact interval of a change: images gained, and lost, at half the error each."""
    values_P = terms.values[:, 0]
    half = (1 + level) / 2
    low_won, high_won = clopper_pearson(int((values_P > 0).sum()), len(values_P), half)
    low_lost, high_lost = clopper_pearson(int((values_P < 0).sum()), len(values_P), half)
    return Interval(low_won - high_lost, high_won - low_lost, EXACT_PAIRED)
