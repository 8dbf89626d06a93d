"""The numbers that decide, kept image by image while a run is summarized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.robustness import CORRUPTED
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Condition
from shrinkproof.selectors import Selector
from shrinkproof.statistics import Replicated, Terms, replicates
from shrinkproof.summary.values import Key, Number

# Shape suffixes: N images, R resampled data sets.

Kept = Terms | Replicated | NDArray[np.float32]
"""Per-image terms, or the (R,) values on resampled data sets where there are none or they are not
needed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selector and the places whose numbers it averages.

    Attributes:
        selector: the number.
        places: condition without severity, and severity.
        is_exact: whether it is one number of one place, no mean of several.
    """

    selector: Selector
    places: tuple[tuple[str, int], ...]
    is_exact: bool


class Watch:
    """Collects what the decision needs of one split.

    Means over images keep one float32 per image; of other metrics only their values on the
    resampled data sets are kept, unless the selector means a single one of them, whose terms a test
    needs.

    Args:
        selectors: spelled selectors of objectives and rules.
        conditions: all that the study measures.
    """

    def __init__(self, selectors: Iterable[str], conditions: Sequence[Condition]) -> None:
        self.wanted = {text: _wanted(Selector.parse(text), conditions) for text in selectors}
        self._by_metric: dict[str, list[str]] = {}
        for text, wanted in self.wanted.items():
            self._by_metric.setdefault(wanted.selector.metric, []).append(text)
        self._found: dict[tuple[str, str], dict[tuple[str, int], Kept]] = {}

    def see(
        self,
        candidate: str,
        numbers: Mapping[Key, Number | Undefined],
        weights: NDArray[np.float32] | None,
        parts: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> None:
        """Keep the numbers of a candidate that a selector means.

        Args:
            candidate: its key.
            numbers: metric and place -> number; only those with terms per image are of use.
            weights: (R, N) how often each image stands in each resampled data set; None where
                there are no images.
            parts: ``column=value`` -> (N,) which images belong to it.
        """
        if weights is None:
            return
        for (metric, condition, severity), number in numbers.items():
            for text in self._by_metric.get(metric, ()):
                if isinstance(number, Terms) and len(number) == weights.shape[1]:
                    place = (condition, severity)
                    self._keep(text, candidate, place, number, weights, parts or {})

    def see_replicated(
        self,
        candidate: str,
        place: tuple[str, int],
        numbers: Mapping[tuple[str, str], Replicated | NDArray[np.float32]],
    ) -> None:
        """Keep the numbers without terms per image that a selector means.

        Args:
            candidate: its key.
            place: condition without severity, and severity.
            numbers: metric and part of the images, empty for all, -> number, or its (R,) values
                alone where differences of it have no test.
        """
        for (metric, part), number in numbers.items():
            for text in self._by_metric.get(metric, ()):
                wanted = self.wanted[text]
                if wanted.selector.part == part and _is_meant(wanted, place):
                    self._found.setdefault((text, candidate), {})[place] = number

    def _keep(
        self,
        text: str,
        candidate: str,
        place: tuple[str, int],
        terms: Terms,
        weights: NDArray[np.float32],
        parts: Mapping[str, NDArray[np.bool_]],
    ) -> None:
        wanted = self.wanted[text]
        if not _is_meant(wanted, place):
            return
        found = self._found.setdefault((text, candidate), {})
        part = wanted.selector.part
        if part:
            is_inside_N = parts.get(part)
            if is_inside_N is not None and terms.kind == "mean" and is_inside_N.any():
                found[place] = _of_part(terms, is_inside_N, weights)
        elif terms.kind == "mean":
            values_N1 = terms.values.astype(np.float32)
            found[place] = Terms(values=values_N1, kind="mean", is_binary=terms.is_binary)
        elif wanted.is_exact and terms.kind == "absolute-sum":
            found[place] = terms
        else:
            found[place] = replicates(terms, weights).astype(np.float32)

    def number(self, text: str, candidate: str) -> Kept | Undefined:
        """Return what was kept of a selector for a candidate, or why nothing was."""
        found = self._found.get((text, candidate), {})
        if len(found) == 1 and (self.wanted[text].is_exact or next(iter(found))[1] == 0):
            return next(iter(found.values()))
        missing = [place for place in self.wanted[text].places if place not in found]
        if not found or missing:
            return Undefined(f"{text} has no values per image that could be resampled")
        kept = [found[place] for place in self.wanted[text].places]
        terms = [item for item in kept if isinstance(item, Terms)]
        if len(terms) == len(kept):
            mean_N1 = np.stack([t.values for t in terms]).mean(axis=0, dtype=np.float64)
            return Terms(values=mean_N1.astype(np.float32), kind="mean", is_binary=False)
        whole = [item for item in kept if isinstance(item, Replicated)]
        if len(whole) == len(kept):
            mean_R = np.mean([item.values for item in whole], axis=0)
            return Replicated(float(np.mean([item.value for item in whole])), mean_R)
        values = [item for item in kept if isinstance(item, np.ndarray)]
        lengths = {len(item) for item in values}
        if len(lengths) > 1:
            return Undefined(f"{text}: some resampled data sets have no such images")
        return np.asarray(np.mean(values, axis=0), dtype=np.float32)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The parts of the images that selectors name."""
        return tuple(
            dict.fromkeys(w.selector.part for w in self.wanted.values() if w.selector.part)
        )


def _wanted(selector: Selector, conditions: Sequence[Condition]) -> Wanted:
    place = (selector.condition, selector.severity)
    corrupted = [(c.corruption, c.severity) for c in conditions if not c.is_clean]
    if selector.severity or selector.condition in ("", "clean"):
        return Wanted(selector, (place,), is_exact=True)
    if selector.condition == CORRUPTED and selector.part:
        return Wanted(selector, tuple(corrupted), is_exact=False)
    own = tuple(place for place in corrupted if place[0] == selector.condition)
    return Wanted(selector, own or (place,), is_exact=not own)


def _is_meant(wanted: Wanted, place: tuple[str, int]) -> bool:
    """Return whether a selector means the number of a place, alone or as part of a mean."""
    selector = wanted.selector
    if not selector.condition:
        return True
    return place in wanted.places or place == (selector.condition, selector.severity)


def _of_part(
    terms: Terms, is_inside_N: NDArray[np.bool_], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the mean over a part of the images on each resampled data set, (R,)."""
    inside_N = is_inside_N.astype(np.float32)
    sums_R2 = weights @ np.stack([terms.values[:, 0] * inside_N, inside_N], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums_R2[:, 0] / sums_R2[:, 1], dtype=np.float32)


def parts_of(
    names: Iterable[str], predictions: ClassificationPredictions, classes: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Return which images belong to each named part, ``class=cat`` or ``column=value``, (N,) each.

    Args:
        names: the parts.
        predictions: know the class and the columns of each image.
        classes: names of the classes, in the order of the logits; their numbers where the data
            name none.
    """
    count = predictions.logits.shape[1]
    known = list(classes) if len(classes) == count else [str(number) for number in range(count)]
    found = {}
    for name in names:
        column, _, value = name.partition("=")
        if column == "class" and value in known:
            found[name] = np.asarray(predictions.target == known.index(value))
        elif column in predictions.slices:
            found[name] = np.asarray(predictions.slices[column].astype(str) == value)
    return found
