"""Where the errors of a candidate come from: conditions, classes, confusions, slices, images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.diagnosis.paired import Loss, Paired, Part, losses, of_conditions, part_of
from shrinkproof.diagnosis.rules import Scope
from shrinkproof.metrics.robustness import GROUPS
from shrinkproof.records import Condition

# Shape suffixes: N images, M conditions.

MOST_PAIRS: Final = 50
"""Pairs of classes that are tested: those that grew most; all count in the correction."""

MOST_IMAGES: Final = 12
"""Images that are listed."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that only the baseline gets right.

    Attributes:
        index: index of the image in its source.
        target: its true class.
        predicted: what the candidate most often says instead.
        count: under how many of the conditions it is lost.
        under: which these are.
        slices: column of the data -> its value.
        group: group of the image; empty where images are independent.
        file: name of its file, where it has one and the data are at hand.
        pictures: the conditions under which the run keeps a picture of it.
    """

    index: int
    target: str
    predicted: str
    count: int
    under: tuple[str, ...]
    slices: Mapping[str, str]
    group: str = ""
    file: str = ""
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What is behind the errors in one scope.

    Attributes:
        name: the scope.
        split: part of the data.
        conditions: how many conditions it has.
        total: all of it.
        groups: the groups of corruptions that have several members here.
        corruptions: every corruption, mean over its severities.
        single: every single condition.
        classes: every class.
        confusions: pairs ``cat -> dog`` of classes that the candidate confuses more often than the
            baseline; rates are about the images of the first class.
        slices: every value of every column of the data.
        negative: images that only the baseline gets right under at least one of the conditions.
        positive: images that only the candidate gets right under at least one.
        images: the images lost under most conditions.
        notes: what a reader must know.
    """

    name: str
    split: str
    conditions: int
    total: Loss
    groups: tuple[Loss, ...]
    corruptions: tuple[Loss, ...]
    single: tuple[Loss, ...]
    classes: tuple[Loss, ...]
    confusions: tuple[Loss, ...]
    slices: tuple[Loss, ...]
    negative: int
    positive: int
    images: tuple[Hit, ...]
    notes: tuple[str, ...] = ()


def break_down(found: Paired, scope: Scope) -> Breakdown | str:
    """Return where the errors in a scope come from, or why nothing can be said.

    Args:
        found: predictions under all conditions of the study.
        scope: which of them, and which part of the images.
    """
    paired = found.under(scope.conditions)
    if not paired.conditions:
        return f"{scope.name}: no predictions of candidate and baseline are stored"
    if scope.part:
        positions = _positions(paired, scope.part)
        if not len(positions):
            return f"{scope.name}: the {paired.split} split has no such image"
        paired = paired.of(positions)
    whole = part_of(paired, scope.name)
    (total,) = losses(paired, [whole])
    is_lost = total.is_shown and total.loss > 0
    lost = whole.lost if is_lost else None
    several = len({c.corruption for c in paired.conditions}) > 1
    return Breakdown(
        name=scope.name,
        split=paired.split,
        conditions=len(paired.conditions),
        total=total,
        groups=_sorted(paired, of_conditions(paired, _groups(paired.conditions)), lost),
        corruptions=_sorted(
            paired, of_conditions(paired, _corruptions(paired.conditions) if several else {}), lost
        ),
        single=_sorted(
            paired,
            of_conditions(paired, {str(c): (c,) for c in paired.conditions}),
            lost,
        ),
        classes=_sorted(paired, _classes(paired), lost),
        confusions=_confusions(paired),
        slices=tuple(row for name in paired.slices for row in _slices(paired, name, lost)),
        negative=int((paired.own_wrong & ~paired.other_wrong).any(axis=0).sum()),
        positive=int((~paired.own_wrong & paired.other_wrong).any(axis=0).sum()),
        images=tuple(_hits(paired)),
        notes=tuple(_notes(paired, scope)),
    )


def _notes(paired: Paired, scope: Scope) -> Iterator[str]:
    missing = len(scope.conditions) - len(paired.conditions)
    if missing:
        yield f"{missing} of {len(scope.conditions)} conditions are not measured for both"
    if scope.metric and not scope.is_of_errors:
        yield f"{scope.metric} is no mean of errors; the tables show where errors come from"


def _sorted(paired: Paired, parts: Iterator[Part], total: int | None) -> tuple[Loss, ...]:
    """Return the rows, largest loss first; what has the same loss stays in its order."""
    rows = losses(paired, list(parts), total=total)
    return tuple(sorted(rows, key=lambda row: -(row.loss * max(row.images, 1))))


def _corruptions(conditions: Sequence[Condition]) -> Mapping[str, list[Condition]]:
    found: dict[str, list[Condition]] = {}
    for condition in conditions:
        found.setdefault(condition.corruption, []).append(condition)
    return found


def _groups(conditions: Sequence[Condition]) -> Mapping[str, list[Condition]]:
    found = {
        name: [c for c in conditions if c.corruption in members] for name, members in GROUPS.items()
    }
    filled = {name: members for name, members in found.items() if members}
    return filled if len(filled) > 1 else {}


def _positions(paired: Paired, part: str) -> NDArray[np.int64]:
    column, _, value = part.partition("=")
    if column == "class" and value in paired.classes:
        return np.flatnonzero(paired.target == paired.classes.index(value))
    values = paired.slices.get(column)
    return np.flatnonzero([] if values is None else values == value)


def _classes(paired: Paired) -> Iterator[Part]:
    if len(np.unique(paired.target)) < 2:
        return
    for number, name in enumerate(paired.classes):
        positions = np.flatnonzero(paired.target == number)
        if len(positions):
            yield part_of(paired, name, positions)


def _slices(paired: Paired, column: str, total: int | None) -> tuple[Loss, ...]:
    """Return the rows of one column of the data; they are tested together."""
    values = paired.slices[column]
    names = np.unique(values).tolist()
    if len(names) < 2:
        return ()
    parts = (part_of(paired, f"{column}={name}", np.flatnonzero(values == name)) for name in names)
    return _sorted(paired, parts, total)


def _confusions(paired: Paired) -> tuple[Loss, ...]:
    """Return the pairs of classes that are confused more often, largest growth first."""
    number = len(paired.classes)
    counts = []
    for said in (paired.own, paired.other):
        pair_MN = paired.target * number + said
        wrong = pair_MN[said != paired.target]
        counts.append(np.bincount(wrong, minlength=number * number))
    grown = counts[0] - counts[1]
    family = int(((counts[0] + counts[1]) > 0).sum())
    order = np.argsort(-grown, kind="stable")[:MOST_PAIRS]
    parts = [_pair(paired, int(at)) for at in order if grown[at] > 0]
    return losses(paired, parts, family=family)


def _pair(paired: Paired, pair: int) -> Part:
    target, said = divmod(pair, len(paired.classes))
    positions = np.flatnonzero(paired.target == target)
    own, other = (
        (predicted[:, positions] == said).sum(axis=0) for predicted in (paired.own, paired.other)
    )
    name = f"{paired.classes[target]} -> {paired.classes[said]}"
    return Part(name, own, other, len(paired.conditions), positions)


def _hits(paired: Paired) -> Iterator[Hit]:
    """Yield the images that only the baseline gets right under most of the conditions."""
    lost_MN = paired.own_wrong & ~paired.other_wrong
    count_N = lost_MN.sum(axis=0)
    for at in np.argsort(-count_N, kind="stable")[:MOST_IMAGES].tolist():
        if not count_N[at]:
            return
        hit = np.flatnonzero(lost_MN[:, at])
        votes = np.bincount(paired.own[hit, at])
        yield Hit(
            index=int(paired.index[at]),
            target=paired.classes[int(paired.target[at])],
            predicted=paired.classes[int(votes.argmax())],
            count=int(count_N[at]),
            under=tuple(str(paired.conditions[m]) for m in hit),
            slices={name: str(values[at]) for name, values in paired.slices.items()},
            group="" if paired.groups is None else str(paired.groups[at]),
        )
