"""Numbers that say whether two networks look at the same places, from their stored heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.heatmaps import HALVES, RANDOMIZED, TWIN, HeatMaps
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.metrics.similarity import MEASURES, fisher_mean
from shrinkproof.protocols import Measurement
from shrinkproof.randomness import stream
from shrinkproof.statistics import Interval, Terms, bootstrap_weights, group_count, interval

# Shape suffixes: n images, R bootstrap replicates.

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

OTHER_IMAGE: Final = "other-image"
"""Name of the control that pairs each map with that of another image."""

_NO_INTERVAL: Final = Interval(reason="no interval with tested coverage for a spread")


def spelled_for(metric: str, label: str) -> str:
    """Return the name of a metric of saliency, with its method unless that is the first one."""
    return f"{metric}[method={label}]" if label else metric


@dataclass(frozen=True, slots=True, eq=False)
class _Resampled:
    """Images with their bootstrap weights.

    Attributes:
        weights: (R, n) how often each image stands in each resampled data set.
        groups: (n,) group of each image, or None.
    """

    weights: NDArray[np.float32]
    groups: NDArray[np.str_] | None

    def take(self, chosen_n: NDArray[np.bool_]) -> _Resampled:
        """Return some of the images."""
        groups = None if self.groups is None else self.groups[chosen_n]
        return _Resampled(self.weights[:, chosen_n], groups)

    def interval(self, terms: Terms, chosen_n: NDArray[np.bool_]) -> Interval:
        """Return the interval of terms that the chosen images have."""
        if np.ptp(terms.values) == 0 and not terms.is_binary:
            return Interval(reason="every image has the same value, so resampling cannot vary it")
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
        resampled = _Resampled(self.weights(own), own.groups)
        values = {short: measure(own.own, baseline.own) for short, measure in MEASURES.items()}
        found = list(self._rows(values, resampled, own.about, ""))
        for part, chosen_n in (("right", own.right), ("wrong", ~own.right)):
            if not chosen_n.any():
                why = f"there is no image that the baseline gets {part}; {own.about}"
                found.append(self._undefined(why, f"baseline={part}"))
                continue
            chosen = {short: numbers[chosen_n] for short, numbers in values.items()}
            of_part = resampled.take(chosen_n)
            found += self._rows(chosen, of_part, own.about, f"baseline={part}")
        for name, first, second, about in _controls(own, is_baseline=own is baseline):
            values = {short: measure(first, second) for short, measure in MEASURES.items()}
            found += self._rows(values, resampled, f"{about}; {own.about}", CONTROL + name)
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
            hcc_n: correlation of each image, ``nan`` where it is undefined.
            beside: those of every candidate of the model, this one among them.
            baseline: maps of the same images.
            about: what every number about the candidate's maps says of them.
        """
        name = spelled_for("saliency.hcc_common", self.label)
        common_n = np.all(~np.isnan(beside), axis=0)
        count = int(common_n.sum())
        told = f"{count} of {len(hcc_n)} images are defined for all {len(beside)} candidates"
        if not count:
            reason = f"{told}; {about}"
            return _measurement(name, None, Interval(reason=reason), 0, "", "derived")
        resampled = _Resampled(self.weights(baseline), baseline.groups)
        stated = resampled.interval(_mean_terms(hcc_n[common_n]), common_n)
        value = float(hcc_n[common_n].mean())
        return _measurement(name, value, _told(stated, told, about), count, "", "derived")

    def no_common(self, reason: str) -> Measurement:
        """Return that number for maps that are not there or cannot be compared."""
        name = spelled_for("saliency.hcc_common", self.label)
        return _measurement(name, None, Interval(reason=reason), 0, "", "derived")

    def _rows(
        self,
        values: Mapping[str, NDArray[np.float64]],
        resampled: _Resampled,
        about: str,
        part: str,
    ) -> Iterator[Measurement]:
        """Yield the metrics of some images."""
        for metric in METRICS:
            terms, chosen_n, told = _terms(metric, values)
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


def _terms(
    metric: str, values: Mapping[str, NDArray[np.float64]]
) -> tuple[Terms | float | None, NDArray[np.bool_], str]:
    """Return terms or number of a metric, the images it is about, and what must be told.

    None stands for an undefined metric.
    """
    short = metric.removeprefix("saliency.")
    numbers_n = values["hcc" if short in ("hcc_spread", "hcc_zero", "undefined") else short]
    defined_n = ~np.isnan(numbers_n)
    everything_n = np.ones(len(numbers_n), dtype=bool)
    if not len(numbers_n):
        return None, everything_n, "there are no images"
    if short == "undefined":
        return _mean_terms(~defined_n, is_binary=True), everything_n, ""
    if short == "hcc_zero":
        return _mean_terms(np.where(defined_n, numbers_n, 0)), everything_n, ""
    missing = int((~defined_n).sum())
    told = f"{missing} of {len(numbers_n)} images undefined: a map is constant" if missing else ""
    if missing == len(numbers_n) and short == "ssim" and not np.isnan(values["hcc"]).all():
        return None, everything_n, "maps with fewer than 4 rows or columns have no structure"
    if missing == len(numbers_n):
        return None, everything_n, "undefined for all images: in each pair a map is constant"
    if short == "hcc_spread":
        if defined_n.sum() < 2:
            return None, everything_n, "a spread needs two images with defined maps, got one"
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
    if is_baseline and len(maps) > 1:
        told = "control, chance level: maps of two different images"
        yield OTHER_IMAGE, of_other_images(maps.own), maps.own, told


def of_other_images(own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each image the map of another one: a random cycle through all of them."""
    order = stream("saliency", "other image").permutation(len(own))
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    return own[partner]


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
