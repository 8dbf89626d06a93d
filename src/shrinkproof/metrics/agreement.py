"""Numbers that say whether two networks look at the same places, from their stored heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.heatmaps import HALVES, OWN, RANDOMIZED, TWIN, HeatMaps
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.metrics.similarity import MEASURES, fisher_mean
from shrinkproof.protocols import Measurement
from shrinkproof.randomness import stream
from shrinkproof.statistics import Interval, Terms, bootstrap_weights, group_count, interval

# Shape suffixes: n images (or boxes, where boxes are explained), R bootstrap replicates.

AGREEMENT_VERSION: Final = 2
"""Raise it when these numbers change: they are then computed again from stored maps."""

CONTROL: Final = "control="
"""How the slice of a control begins; its rows are about no compressed network."""

METRICS: Final = (
    "saliency.hcc",
    "saliency.hcc_spread",
    "saliency.hcc_zero",
    "saliency.undefined",
    "saliency.spearman",
    "saliency.cosine",
    "saliency.ssim",
    "saliency.topk",
)
"""Metrics of one candidate; ``saliency.hcc_common`` needs all of them together."""

UNMATCHED: Final = "saliency.unmatched"
"""Metric of one candidate where boxes are explained: those whose maps cannot be compared."""

OTHER_IMAGE: Final = "other-image"
"""Name of the control that pairs each map with that of another image."""

_NO_INTERVAL: Final = Interval(reason="no interval with tested coverage for a spread")


def spelled_for(metric: str, label: str) -> str:
    """Return the name of a metric of saliency, with its method unless that is the first one."""
    return f"{metric}[method={label}]" if label else metric


@dataclass(frozen=True, slots=True, eq=False)
class _Resampled:
    """Images or boxes with their bootstrap weights.

    Attributes:
        weights: (R, n) how often each one stands in each resampled data set.
        groups: (n,) group of each one, or None.
        counted: ``images`` or ``boxes``.
    """

    weights: NDArray[np.float32]
    groups: NDArray[np.str_] | None
    counted: str

    def take(self, chosen_n: NDArray[np.bool_]) -> _Resampled:
        """Return some of them."""
        if chosen_n.all():
            return self
        groups = None if self.groups is None else self.groups[chosen_n]
        return _Resampled(self.weights[:, chosen_n], groups, self.counted)

    def interval(self, terms: Terms, chosen_n: NDArray[np.bool_]) -> Interval:
        """Return the interval of terms that the chosen images have."""
        if np.ptp(terms.values) == 0 and not terms.is_binary:
            one = "image" if self.counted == "images" else "box"
            same = f"every {one} has the same value, so resampling cannot vary it"
            return Interval(reason=same)
        chosen = self.take(chosen_n)
        return interval(terms, chosen.weights, group_count=group_count(chosen.groups))


@dataclass(frozen=True)
class Agreement:
    """How the numbers about heat maps are made.

    Attributes:
        label: method that stands in the names; empty for the study's first one.
        replicates: bootstrap replicates of the intervals.
        seed: seed of the bootstrap.
    """

    label: str = ""
    replicates: int = 1000
    seed: int = 0

    def versions(self) -> dict[str, int]:
        """Return what the numbers depend on besides the maps."""
        is_first = int(not self.label)
        return {
            "agreement": AGREEMENT_VERSION,
            "is_first_method": is_first,
            "replicates": self.replicates,
        }

    def weights(self, maps: HeatMaps) -> NDArray[np.float32]:
        """Return the bootstrap weights of the images, (R, n); groups are resampled whole."""
        return bootstrap_weights(
            len(maps), groups=maps.groups, replicates=self.replicates, seed=self.seed
        )

    def numbers(self, own: HeatMaps, baseline: HeatMaps) -> list[Measurement]:
        """Return everything about a candidate beside its baseline.

        All images, then those that the baseline gets right and wrong, then the controls that can
        be had from these maps. A baseline beside itself also has the control of other images.

        Raises:
            DataError: the maps are not about the same images and classes, or differ in size.
        """
        own.check_beside(baseline)
        resampled = _Resampled(self.weights(own), own.groups, own.counted)
        values = {short: measure(own.own, baseline.own) for short, measure in MEASURES.items()}
        both_n = own.has(OWN) & baseline.has(OWN)
        about = _with_unmatched(own.about, both_n)
        everything_n = np.ones(len(own), dtype=bool)
        parts = {"": everything_n, "baseline=right": own.right, "baseline=wrong": own.wrong}
        found: list[Measurement] = []
        for part, of_part_n in parts.items():
            if part and not of_part_n.any():
                one = "image" if own.boxes is None else "box"
                why = f"there is no {one} that the baseline gets {part.partition('=')[2]}"
                found.append(self._undefined(f"{why}; {own.about}", part))
                continue
            found += self._chosen(values, resampled, of_part_n & both_n, about, part)
            if own.boxes is not None:
                found.append(self._unmatched(both_n, of_part_n, resampled, own.about, part))
        for name, first, second, told in _controls(own, is_baseline=own is baseline):
            values = {short: measure(first, second) for short, measure in MEASURES.items()}
            present_n = own.has(TWIN) if name == TWIN else own.has(OWN)
            about = f"{told}; {_with_unmatched(own.about, present_n)}"
            found += self._chosen(values, resampled, present_n, about, CONTROL + name)
            if name == TWIN and own.boxes is not None:
                about = f"{told}; {own.about}"
                found.append(
                    self._unmatched(present_n, everything_n, resampled, about, CONTROL + name)
                )
        found += [
            self._undefined(f"no {name} control: {why}; {own.about}", CONTROL + name)
            for name, why in own.missing.items()
        ]
        return found

    def common(
        self,
        hcc_n: NDArray[np.float64],
        beside: Sequence[NDArray[np.float64]],
        baseline: HeatMaps,
        about: str,
    ) -> Measurement:
        """Return the correlation on the images that are defined for all candidates.

        Args:
            hcc_n: correlation of each image or box, ``nan`` where it is undefined.
            beside: those of every candidate of the model, this one among them.
            baseline: maps of the same images or boxes.
            about: what every number about the candidate's maps says of them.
        """
        name = spelled_for("saliency.hcc_common", self.label)
        common_n = np.all(~np.isnan(beside), axis=0)
        count = int(common_n.sum())
        what = f"{len(hcc_n)} {baseline.counted}"
        told = f"{count} of {what} are defined for all {len(beside)} candidates"
        if not count:
            reason = f"{told}; {about}"
            return _measurement(name, None, Interval(reason=reason), 0, "", "derived")
        resampled = _Resampled(self.weights(baseline), baseline.groups, baseline.counted)
        stated = resampled.interval(_mean_terms(hcc_n[common_n]), common_n)
        value = float(hcc_n[common_n].mean())
        return _measurement(name, value, _told(stated, told, about), count, "", "derived")

    def no_common(self, reason: str) -> Measurement:
        """Return that number for maps that are not there or cannot be compared."""
        name = spelled_for("saliency.hcc_common", self.label)
        return _measurement(name, None, Interval(reason=reason), 0, "", "derived")

    def _chosen(
        self,
        values: Mapping[str, NDArray[np.float64]],
        resampled: _Resampled,
        chosen_n: NDArray[np.bool_],
        about: str,
        part: str,
    ) -> Iterator[Measurement]:
        """Yield the metrics of some images or boxes."""
        chosen = {short: numbers[chosen_n] for short, numbers in values.items()}
        return self._rows(chosen, resampled.take(chosen_n), about, part)

    def _unmatched(
        self,
        present_n: NDArray[np.bool_],
        of_part_n: NDArray[np.bool_],
        resampled: _Resampled,
        about: str,
        part: str,
    ) -> Measurement:
        """Return the share of the baseline's boxes that have no counterpart."""
        name = spelled_for(UNMATCHED, self.label)
        count = int(of_part_n.sum())
        if not count:
            why = Interval(reason=f"there are no boxes; {about}")
            return _measurement(name, None, why, 0, part)
        terms = _mean_terms(~present_n[of_part_n], is_binary=True)
        some = resampled.take(of_part_n)
        stated = some.interval(terms, np.ones(count, dtype=bool))
        value = float(terms.values.mean())
        return _measurement(name, value, _told(stated, about), count, part)

    def _rows(
        self,
        values: Mapping[str, NDArray[np.float64]],
        resampled: _Resampled,
        about: str,
        part: str,
    ) -> Iterator[Measurement]:
        """Yield the metrics of images or boxes."""
        for metric in METRICS:
            terms, chosen_n, told = _terms(metric, values, resampled.counted)
            count = int(chosen_n.sum())
            value: float | None
            if isinstance(terms, Terms):
                value = float(terms.values.mean(dtype=np.float64))
                stated = resampled.interval(terms, chosen_n)
            else:
                value = terms
                stated = Interval() if terms is None else _NO_INTERVAL
            name = spelled_for(metric, self.label)
            yield _measurement(name, value, _told(stated, told, about), count, part)

    def _undefined(self, reason: str, part: str) -> Measurement:
        name = spelled_for("saliency.hcc", self.label)
        return _measurement(name, None, Interval(reason=reason), 0, part)


def _with_unmatched(about: str, present_n: NDArray[np.bool_]) -> str:
    """Return what is said of maps, with how many of them are not there."""
    missing = int((~present_n).sum())
    if not missing:
        return about
    return f"{missing} of {len(present_n)} boxes of the baseline have no counterpart; {about}"


def _terms(
    metric: str, values: Mapping[str, NDArray[np.float64]], counted: str
) -> tuple[Terms | float | None, NDArray[np.bool_], str]:
    """Return terms or number of a metric, the images or boxes it is about, and what must be told.

    None stands for an undefined metric.
    """
    short = metric.removeprefix("saliency.")
    numbers_n = values["hcc" if short in ("hcc_spread", "hcc_zero", "undefined") else short]
    defined_n = ~np.isnan(numbers_n)
    everything_n = np.ones(len(numbers_n), dtype=bool)
    if not len(numbers_n):
        return None, everything_n, f"there are no {counted} to compare"
    if short == "undefined":
        return _mean_terms(~defined_n, is_binary=True), everything_n, ""
    if short == "hcc_zero":
        return _mean_terms(np.where(defined_n, numbers_n, 0)), everything_n, ""
    missing = int((~defined_n).sum())
    some = f"{missing} of {len(numbers_n)} {counted} undefined"
    told = f"{some}: a map is constant" if missing else ""
    if missing == len(numbers_n) and short == "ssim" and not np.isnan(values["hcc"]).all():
        return None, everything_n, "maps with fewer than 4 rows or columns have no structure"
    if missing == len(numbers_n):
        return None, everything_n, f"undefined for all {counted}: in each pair a map is constant"
    if short == "hcc_spread":
        if defined_n.sum() < 2:
            return None, everything_n, f"a spread needs two {counted} with defined maps, got one"
        return float(numbers_n[defined_n].std(ddof=1)), defined_n, told
    if short == "hcc":
        fisher = f"mean on Fisher's scale {fisher_mean(numbers_n[defined_n]):.3f}"
        told = f"{told}; {fisher}" if told else fisher
    return _mean_terms(numbers_n[defined_n]), defined_n, told


def _mean_terms(values_n: NDArray[Any], *, is_binary: bool = False) -> Terms:
    return Terms(values=values_n.astype(np.float64)[:, None], kind="mean", is_binary=is_binary)


def _controls(
    maps: HeatMaps, *, is_baseline: bool
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32], str]]:
    """Yield name, both stacks of maps, and what a reader must know of each control."""
    if RANDOMIZED in maps.maps:
        told = "control, lower bound: the same network with its weights drawn anew"
        yield RANDOMIZED, maps.maps[RANDOMIZED], maps.own, told
    if TWIN in maps.maps:
        told = f"control, noise level: {maps.twin}, trained independently"
        yield TWIN, maps.maps[TWIN], maps.own, told
    if all(half in maps.maps for half in HALVES):
        first, second = (maps.maps[half] for half in HALVES)
        told = (
            "control, reliability: maps from disjoint halves of the same masks; maps from all "
            "masks are more reliable, 2 r / (1 + r); both networks are shown the same masks, so "
            "that they can agree better than one does with itself"
        )
        yield "split-half", first, second, told
    if is_baseline and len(np.unique(maps.index)) > 1:
        told = "control, chance level: maps of two different images"
        if maps.boxes is not None:
            told = "control, chance level: maps of boxes in two different images"
        yield OTHER_IMAGE, of_other_images(maps.own, maps.index), maps.own, told


def of_other_images(own: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return for each map one of another image: a random cycle through all images.

    Args:
        own: (n, h, w).
        index: (n,) image of each map. The k-th map of an image meets the k-th of the other, which
            starts over where it has fewer.
    """
    images, image_n, count = np.unique(index, return_inverse=True, return_counts=True)
    order = stream("saliency", "other image").permutation(len(images))
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    by_image = np.argsort(image_n, kind="stable")
    start = np.cumsum(count) - count
    rank_n = np.empty_like(by_image)
    rank_n[by_image] = np.arange(len(own)) - np.repeat(start, count)
    other_n = partner[image_n]
    return own[by_image[start[other_n] + rank_n % count[other_n]]]


def _told(stated: Interval, *texts: str) -> Interval:
    """Return an interval that tells more."""
    reason = "; ".join(text for text in (*texts, stated.reason) if text)
    return Interval(stated.low, stated.high, stated.method, reason)


def _measurement(
    name: str, value: float | None, stated: Interval, count: int, part: str, basis: str = "measured"
) -> Measurement:
    known = METRIC_NAMES[name.partition("[")[0]]
    return Measurement(
        metric=name,
        value=value,
        unit=known.unit,
        better=known.better.value,
        low=stated.low,
        high=stated.high,
        interval=stated.method,
        count=count,
        basis=basis,
        reason=stated.reason,
        slice=part,
    )
