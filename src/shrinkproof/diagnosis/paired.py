"""What a candidate and its baseline said about the same images, and tests of what differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.flips import mismatch
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Condition
from shrinkproof.results import Results
from shrinkproof.statistics import Terms, bootstrap_weights, group_count, holm, interval
from shrinkproof.statistics.hypotheses import group_sums, sign_flip_p
from shrinkproof.summary.classes import class_names

# Shape suffixes: N images, M conditions, P images of a part, G groups.

LEVEL: Final = 0.95
ALPHA: Final = 0.05
"""A difference is shown where its p-value, corrected for its table, is below."""

MOST_EXACT: Final = 10_000_000
"""Steps of the exact distribution of a test beyond which its normal limit is taken."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Predictions of two networks about the same images under the same conditions.

    Attributes:
        split: part of the data.
        conditions: M conditions under which both were measured.
        own: (M, N) predicted class of the candidate.
        other: (M, N) predicted class of the baseline.
        target: (N,) true class.
        index: (N,) index of each image in its source.
        groups: (N,) group of each image; None where images are independent.
        slices: name -> (N,) value of each image.
        weights: (R, N) how often each image stands in each resampled data set.
        classes: name of each class.
    """

    split: str
    conditions: tuple[Condition, ...]
    own: NDArray[np.int64]
    other: NDArray[np.int64]
    target: NDArray[np.int64]
    index: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    slices: Mapping[str, NDArray[np.str_]]
    weights: NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def own_wrong(self) -> NDArray[np.bool_]:
        """Whether the candidate is wrong, (M, N)."""
        return np.asarray(self.own != self.target)

    @property
    def other_wrong(self) -> NDArray[np.bool_]:
        """Whether the baseline is wrong, (M, N)."""
        return np.asarray(self.other != self.target)

    def under(self, conditions: Sequence[Condition]) -> Paired:
        """Return the predictions under some of the conditions, in the order of the study."""
        kept = [at for at, condition in enumerate(self.conditions) if condition in conditions]
        return replace(
            self,
            conditions=tuple(self.conditions[at] for at in kept),
            own=self.own[kept],
            other=self.other[kept],
        )

    def of(self, positions: NDArray[np.int64]) -> Paired:
        """Return what is about some of the images."""
        return replace(
            self,
            own=self.own[:, positions],
            other=self.other[:, positions],
            target=self.target[positions],
            index=self.index[positions],
            groups=None if self.groups is None else self.groups[positions],
            slices={name: values[positions] for name, values in self.slices.items()},
            weights=self.weights[:, positions],
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """How much more often the candidate is wrong than the baseline, on a part of what was measured.

    Attributes:
        name: the part: a condition, a class, a slice, a pair of classes.
        value: how often the candidate is wrong, 0 to 1.
        baseline: how often the baseline is.
        loss: the first minus the second.
        low: lower end of its 95 % interval; None where no interval is stated.
        high: upper end; None likewise.
        p: p-value of no difference, corrected for all rows of the table (Holm).
        is_shown: whether the difference, in either direction, is more than chance.
        share: part of the total loss, gains subtracted, that is found here: below 0 for a gain,
            and above 1 where others gain; None where the total is not shown.
        images: number of images behind it.
        note: why there is no interval, or what else a reader must know.
    """

    name: str
    value: float
    baseline: float
    loss: float
    low: float | None
    high: float | None
    p: float
    is_shown: bool
    share: float | None = None
    images: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One row of a table before it is tested.

    Attributes:
        name: what it is about.
        own: (P,) in how many of the conditions the candidate is wrong about each image.
        other: (P,) in how many the baseline is.
        conditions: number of the conditions.
        positions: (P,) which images of the split they are.
        note: what a reader must know about it.
    """

    name: str
    own: NDArray[np.int64]
    other: NDArray[np.int64]
    conditions: int
    positions: NDArray[np.int64]
    note: str = ""

    @property
    def lost(self) -> int:
        """Wrong answers of the candidate minus those of the baseline."""
        return int(self.own.sum() - self.other.sum())


def read_paired(
    results: Results, candidate: Candidate, baseline: Candidate, split: str
) -> Paired | Undefined:
    """Return the stored predictions of a candidate beside its baseline's, or why there are none."""
    read: list[tuple[Condition, ClassificationPredictions, ClassificationPredictions]] = []
    shards = [results.scored(one.key, split) for one in (candidate, baseline)]
    for condition in (c for c in shards[0] if c in shards[1]):
        own, other = (results.store.read_logits(s[condition].cell.key) for s in shards)
        if own is None or other is None or not len(own):
            continue
        first = read[0][1] if read else own
        for one in (own, other):
            problem = mismatch(one.index, one.target, first.index, first.target)
            if problem:
                return Undefined(f"predictions under {condition} are about others: {problem}")
        read.append((condition, own, other))
    if not read:
        return Undefined(f"no predictions of both are stored on the {split} split")
    return _paired(results, split, read)


def _paired(
    results: Results,
    split: str,
    read: Sequence[tuple[Condition, ClassificationPredictions, ClassificationPredictions]],
) -> Paired:
    first = read[0][1]
    return Paired(
        split=split,
        conditions=tuple(condition for condition, _, _ in read),
        own=np.stack([own.prediction() for _, own, _ in read]),
        other=np.stack([other.prediction() for _, _, other in read]),
        target=first.target,
        index=first.index,
        groups=first.groups,
        slices=first.slices,
        weights=bootstrap_weights(
            len(first),
            groups=first.groups,
            replicates=results.settings.replicates,
            seed=results.settings.seed,
        ),
        classes=class_names(results.settings, first.logits.shape[1]),
    )


def losses(
    paired: Paired, parts: Sequence[Part], *, total: int | None = None, family: int | None = None
) -> tuple[Loss, ...]:
    """Return the rows of a table, tested together, in the order of the parts.

    The null hypothesis of a row is that both networks can be swapped, for an image (or group) in
    all conditions at once: the exact sign-flip test, which for one condition is McNemar's. Its
    p-values are corrected for all rows (Holm). A difference is shown where the corrected p-value
    is below 0.05 and the interval, where there is one, does not include zero.

    Args:
        paired: where the parts come from.
        parts: the rows.
        total: wrong answers lost altogether, for the shares; None where none is shown.
        family: number of rows that might have been listed; those left out count in the
            correction. The number of parts by default.
    """
    tested = [_p_value(part, paired.groups) for part in parts]
    left_out = [1.0] * ((family or len(parts)) - len(parts))
    adjusted = holm([*tested, *left_out])[: len(parts)].tolist() if parts else []
    return tuple(_loss(paired, part, p, total) for part, p in zip(parts, adjusted, strict=True))


def _loss(paired: Paired, part: Part, p: float, total: int | None) -> Loss:
    count = len(part.positions)
    shots = max(1, count * part.conditions)
    difference_P = (part.own - part.other) / part.conditions
    groups = None if paired.groups is None else paired.groups[part.positions]
    weights = paired.weights
    stated = interval(
        Terms(values=difference_P[:, None].astype(np.float64), kind="mean"),
        weights if count == weights.shape[1] else weights[:, part.positions],
        LEVEL,
        group_count=group_count(groups),
    )
    is_clear = stated.low is None or stated.high is None or not stated.low <= 0 <= stated.high
    return Loss(
        name=part.name,
        value=float(part.own.sum() / shots),
        baseline=float(part.other.sum() / shots),
        loss=float(part.lost / shots),
        low=stated.low,
        high=stated.high,
        p=p,
        is_shown=p < ALPHA and is_clear,
        share=part.lost / total if total else None,
        images=count,
        note="; ".join(filter(None, (part.note, stated.reason))),
    )


def _p_value(part: Part, groups: NDArray[Any] | None) -> float:
    """Return the two-sided p-value of swapping both networks for whole images, or groups."""
    difference_P = (part.own - part.other).astype(np.float64)
    grouped = None if groups is None else groups[part.positions]
    sums_G = np.rint(group_sums(difference_P, grouped)).astype(np.int64)
    size_G, total = np.abs(sums_G[sums_G != 0]), int(sums_G.sum())
    if not len(size_G):
        return 1.0
    if int(size_G.sum()) * len(size_G) <= MOST_EXACT:
        return sign_flip_p(size_G, total)
    # Sums go in steps of 2, so the normal density is cut in the middle between two of them.
    spread = math.sqrt(2 * float((size_G.astype(np.float64) ** 2).sum()))
    return math.erfc(max(abs(total) - 1, 0) / spread)


def part_of(paired: Paired, name: str, positions: NDArray[np.int64] | None = None) -> Part:
    """Return the errors of some of the images, all by default, under all conditions together."""
    at = np.arange(len(paired.target)) if positions is None else positions
    own, other = (wrong[:, at].sum(axis=0) for wrong in (paired.own_wrong, paired.other_wrong))
    return Part(name, own, other, len(paired.conditions), at)


def of_conditions(paired: Paired, named: Mapping[str, Sequence[Condition]]) -> Iterator[Part]:
    """Yield the errors under some of the conditions, by name."""
    for name, conditions in named.items():
        yield part_of(paired.under(conditions), name)
