"""What differs between two candidates of one run or of two, with paired tests where they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.names import MPC, RPC
from shrinkproof.metrics.spelling import described
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better
from shrinkproof.records import CLEAN, Json
from shrinkproof.results.naming import find_candidate
from shrinkproof.results.pair_caveats import pair_caveats
from shrinkproof.results.pairs import LEVEL, Compared, Pair, is_counted
from shrinkproof.results.sides import ACCURACY, RECALL, Side
from shrinkproof.selectors import Selector
from shrinkproof.statistics import (
    EXACT_PAIRED,
    Interval,
    clopper_pearson,
    difference,
    holm,
    mcnemar,
)
from shrinkproof.statistics.margins import noninferiority
from shrinkproof.summary import CORRUPTED
from shrinkproof.summary.classes import class_names

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

# Shape suffixes: N images.

Verdict = Literal[
    "better", "worse", "equal", "kept within margin", "no difference shown", "not comparable"
]

ERROR: Final = "robustness.error"
MEAN_ERROR: Final = "robustness.mean_error"
COSTS: Final = (
    *("cost.bytes", "cost.bytes_zip", "cost.parameters", "cost.nonzero", "cost.macs"),
    *("cost.latency_median", "cost.latency_p95", "cost.memory_peak"),
)

_ALPHA: Final = 1 - LEVEL
_MOST_STEPS: Final = 300_000_000
"""Steps of an exact test over several conditions beyond which the interval alone decides."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of both candidates, and what can be said about their difference.

    Attributes:
        selector: which number, as rules spell it.
        first: the first candidate's value; None where it has none.
        second: the second candidate's value.
        difference: second minus first.
        low: lower end of its interval; None where none is stated.
        high: upper end.
        method: how the interval was made; empty for none.
        ratio: second divided by first, of costs; else None.
        ratio_low: lower end of the interval of the ratio.
        ratio_high: upper end.
        is_paired: True where both are about the same images.
        p: p-value of no difference, McNemar's test or its form for several conditions of an image;
            None where no test applies.
        adjusted_p: the same after Holm's correction over its family; None for a single test.
        margin: by how much it may be worse and still count as kept; None where nobody said.
        margin_p: p-value of being worse than the margin allows; None where no test applies.
        verdict: what this says about the second candidate; ``kept within margin`` only by a test of
            non-inferiority.
        reason: what is missing, or what a reader must know; empty for nothing.
    """

    selector: str
    first: float | None
    second: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    is_paired: bool = False
    p: float | None = None
    adjusted_p: float | None = None
    margin: float | None = None
    margin_p: float | None = None
    verdict: Verdict = "not comparable"
    reason: str = ""

    @property
    def is_kept(self) -> bool:
        """True where non-inferiority within the margin is shown."""
        return self.margin_p is not None and self.margin_p <= _ALPHA


@dataclass(frozen=True, slots=True)
class Flips:
    """Images whose correctness or class changed from the first candidate to the second.

    Attributes:
        condition: under which condition.
        lost: images that only the first gets right.
        gained: images that only the second gets right.
        changed: images with another predicted class.
        count: all images.
    """

    condition: str
    lost: int
    gained: int
    changed: int
    count: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two candidates side by side.

    Attributes:
        first: label of what is compared with.
        second: label of what is compared.
        runs: their run directories.
        studies: names of their studies, with the scale.
        split: split whose numbers are printed.
        count: images of the second candidate behind them; 0 where only numbers are known.
        unpaired: why nothing is paired; empty where clean numbers are.
        clean: the study's metrics on clean images.
        corrupted: their means over all corrupted conditions, and the mean error.
        corruptions: the error under each corruption.
        conditions: accuracy under each corrupted condition.
        classes: recall of each class on clean images; intervals hold for all classes at once.
        costs: sizes and times.
        flips: which images changed, by condition.
        caveats: what a reader must know.
    """

    first: str
    second: str
    runs: tuple[str, str]
    studies: tuple[str, str]
    split: str
    count: int
    unpaired: str
    clean: tuple[Row, ...]
    corrupted: tuple[Row, ...]
    corruptions: tuple[Row, ...]
    conditions: tuple[Row, ...]
    classes: tuple[Row, ...]
    costs: tuple[Row, ...]
    flips: tuple[Flips, ...]
    caveats: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        parts = (self.clean, self.corrupted, self.corruptions, self.conditions)
        return tuple(row for part in (*parts, self.classes, self.costs) for row in part)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)


def compare(first: Results, a: str, second: Results, b: str) -> Comparison:
    """Return what changes from candidate ``a`` of a run to ``b`` of the same or another run.

    Numbers are those of the printed split. Where images and pixels are the same in both, intervals
    and tests are paired image by image, with the bootstrap weights of the first run. Else intervals
    treat the images as two independent samples, there is no test, and the reason says so. Numbers
    on other data, or under other corruptions, are not compared.

    * Accuracy on clean images: McNemar's test. Under each corrupted condition, and for the error
      under each corruption (all severities of an image swapped together): the same, with Holm's
      correction over all conditions and over all corruptions.
    * Other numbers: better or worse where the interval excludes no change.
    * Margins are those of ``measure.margins``, the smaller one where both studies have one; kept
      within it is only what a test of non-inferiority shows.

    Args:
        first: run of what is compared with.
        a: its candidate; the model may be left out where one candidate fits.
        second: run of what is compared; the same object for two candidates of one run.
        b: its candidate.

    Raises:
        UsageError: a name means no candidate, or both are the same candidate of one run.
    """
    pair = Pair(Side(first, find_candidate(first, a)), Side(second, find_candidate(second, b)))
    own, other = pair.first, pair.second
    is_one_run = first.store.path.resolve() == second.store.path.resolve()
    if is_one_run and own.label == other.label:
        raise UsageError(
            f"compare: needs two candidates, got {own.label} twice; name another one, or another "
            "run with --with"
        )
    return Comparison(
        first=own.label,
        second=other.label,
        runs=(str(first.store.path), str(second.store.path)),
        studies=(first.spec.full_name, second.spec.full_name),
        split=second.printing,
        count=0 if other.images is None else len(other.images),
        unpaired=pair.other_images,
        clean=tuple(_rows(pair, [Selector(m, "clean") for m in _metrics(pair)])),
        corrupted=tuple(_rows(pair, _means(pair))),
        corruptions=_corrected(_rows(pair, _corruptions(pair))),
        conditions=_corrected(_rows(pair, _conditions(pair))),
        classes=tuple(_classes(pair)),
        costs=tuple(_costs(pair)),
        flips=tuple(_flips(pair)),
        caveats=tuple(pair_caveats(pair)),
    )


def _metrics(pair: Pair) -> list[str]:
    others = set(pair.second.results.metrics)
    return [name for name in pair.first.results.metrics if name in others]


def _means(pair: Pair) -> list[Selector]:
    if not pair.shared:
        return []
    overall = (
        [Selector(m, CORRUPTED) for m in (MPC, RPC)]
        if _is_of_boxes(pair)
        else [Selector(MEAN_ERROR)]
    )
    return [*overall, *(Selector(m, CORRUPTED) for m in _metrics(pair))]


def _corruptions(pair: Pair) -> list[Selector]:
    metric = MPC if _is_of_boxes(pair) else ERROR
    return [Selector(metric, name) for name in dict.fromkeys(c.corruption for c in pair.shared)]


def _conditions(pair: Pair) -> list[Selector]:
    metric = pair.first.results.spec.quality if _is_of_boxes(pair) else ACCURACY
    return [Selector(metric, c.corruption, c.severity) for c in pair.shared]


def _is_of_boxes(pair: Pair) -> bool:
    return pair.first.results.spec.task == "detection"


def _rows(pair: Pair, selectors: Sequence[Selector]) -> Iterator[Row]:
    for selector in selectors:
        values = tuple(side.number(selector).value for side in (pair.first, pair.second))
        if values != (None, None):
            yield _row(pair, selector, values[0], values[1])


def _row(pair: Pair, selector: Selector, first: float | None, second: float | None) -> Row:
    found = pair.change(selector)
    row = _with_change(Row(str(selector), first, second), found)
    p = _p_value(pair, selector) if found.is_paired else None
    margin = _margin(pair, selector)
    row = replace(row, p=p, margin=margin)
    if margin is not None and found.is_paired:
        row = replace(row, margin_p=_margin_p(pair, selector, margin))
    return replace(row, verdict=_verdict(row, _better(selector)))


def _with_change(row: Row, found: Compared) -> Row:
    return replace(
        row,
        difference=found.value,
        low=found.interval.low,
        high=found.interval.high,
        method=found.interval.method,
        is_paired=found.is_paired,
        reason=found.reason,
    )


def _better(selector: Selector) -> Better:
    known = described(selector.metric)
    return Better.NONE if known is None else known.better


def _verdict(row: Row, better: Better) -> Verdict:
    """Return what a row says; a test decides where there is one, else the interval."""
    if row.difference is None or better is Better.NONE:
        return "not comparable" if row.difference is None else "no difference shown"
    gain = row.difference if better is Better.HIGHER else -row.difference
    p = row.p if row.adjusted_p is None else row.adjusted_p
    excludes = row.low is not None and row.high is not None and (row.low > 0 or row.high < 0)
    if gain and (excludes if p is None else p <= _ALPHA):
        return "better" if gain > 0 else "worse"
    if row.is_kept:
        return "kept within margin"
    return "no difference shown"


def _corrected(rows: Iterator[Row]) -> tuple[Row, ...]:
    """Return rows of one family with Holm's correction over their tests."""
    found = list(rows)
    tested = [i for i, row in enumerate(found) if row.p is not None]
    values = [row.p for row in found if row.p is not None]
    for i, p in zip(tested, holm(values).tolist() if values else [], strict=True):
        row = replace(found[i], adjusted_p=p)
        better = _better(Selector.parse(row.selector))
        found[i] = replace(row, verdict=_verdict(row, better))
    return tuple(found)


def _p_value(pair: Pair, selector: Selector) -> float | None:
    """Return the p-value of no difference; an image's conditions are swapped together."""
    if selector.metric not in (ACCURACY, ERROR) or selector.condition == CORRUPTED:
        return None
    places = pair.first.places(selector)
    errors = [[side.totals.errors.get(c) for c in places] for side in (pair.first, pair.second)]
    images = pair.first.images
    known = [[e for e in side if e is not None] for side in errors]
    if images is None or not places or any(len(side) < len(places) for side in known):
        return None
    own, other = (np.concatenate(side) for side in known)
    groups = np.arange(len(images)) if images.groups is None else images.groups
    changed = int((own != other).sum())
    if changed * min(changed, len(images)) > _MOST_STEPS:
        return None
    is_grouped = images.groups is not None or len(places) > 1
    units = np.tile(groups, len(places)) if is_grouped else None
    return mcnemar(1 - other, 1 - own, groups=units).p


def _margin(pair: Pair, selector: Selector) -> float | None:
    if selector.condition not in ("clean", CORRUPTED):
        return None
    margins = (side.results.settings.margins for side in (pair.first, pair.second))
    found = [known[selector.metric] for known in margins if selector.metric in known]
    return min(found, default=None)


def _margin_p(pair: Pair, selector: Selector, margin: float) -> float | None:
    own, other = pair.first.terms(selector), pair.second.terms(selector)
    images = pair.first.images
    if own is None or other is None or images is None or {own.kind, other.kind} != {"mean"}:
        return None
    sign = -1.0 if _better(selector) is Better.LOWER else 1.0
    gain_N = sign * difference(other, own).values[:, 0]
    return noninferiority(gain_N, margin, groups=images.groups).p


def _classes(pair: Pair) -> Iterator[Row]:
    """Yield the recall of each class on clean images; all intervals hold together (Bonferroni)."""
    own, other = (side.images for side in (pair.first, pair.second))
    if not isinstance(own, ClassificationPredictions) or CLEAN not in pair.first.shards:
        return
    if other is None:
        return
    names = class_names(pair.first.results.settings, own.logits.shape[1])
    filled = [n for n in names if all(_has(side, n) for side in (pair.first, pair.second))]
    for name in filled:
        selector = Selector(RECALL, "clean", part=f"class={name}")
        values = [side.number(selector).value for side in (pair.first, pair.second)]
        if None in values:
            continue
        level = 1 - _ALPHA / len(filled)
        found = pair.change(selector, level)
        if found.is_paired and own.groups is None:
            found = replace(found, interval=_exact(pair, selector, level), reason="")
        row = _with_change(Row(str(selector), values[0], values[1]), found)
        yield replace(row, verdict=_verdict(row, Better.HIGHER))


def _has(side: Side, name: str) -> bool:
    positions = side.positions(f"class={name}")
    return positions is not None and len(positions) > 0


def _exact(pair: Pair, selector: Selector, level: float) -> Interval:
    """Return the exact interval of a change: images gained, and lost, at half the error each."""
    own, other = pair.first.terms(selector), pair.second.terms(selector)
    if own is None or other is None:
        return Interval(reason=f"{selector} is known as a number only, not per image")
    values_N = difference(other, own).values[:, 0]
    half = (1 + level) / 2
    low_won, high_won = clopper_pearson(int((values_N > 0).sum()), len(values_N), half)
    low_lost, high_lost = clopper_pearson(int((values_N < 0).sum()), len(values_N), half)
    return Interval(low_won - high_lost, high_won - low_lost, EXACT_PAIRED)


def _costs(pair: Pair) -> Iterator[Row]:
    for metric in COSTS:
        selector = Selector(metric)
        values = [side.number(selector).value for side in (pair.first, pair.second)]
        if values == [None, None]:
            continue
        row = _with_change(Row(metric, values[0], values[1]), pair.change(selector))
        verdict = _verdict(row, Better.LOWER)
        if is_counted(metric) and row.difference == 0:
            verdict = "equal"
        found = pair.ratio(selector)
        yield replace(
            row,
            ratio=found.value,
            ratio_low=found.interval.low,
            ratio_high=found.interval.high,
            verdict=verdict,
        )


def _flips(pair: Pair) -> Iterator[Flips]:
    own, other = pair.first.totals, pair.second.totals
    for condition in pair.first.conditions:
        if condition not in own.errors or condition not in other.errors:
            continue
        if pair.unpaired(condition):
            continue
        before, after = own.errors[condition], other.errors[condition]
        changed = own.predicted[condition] != other.predicted[condition]
        yield Flips(
            str(condition),
            lost=int((before < after).sum()),
            gained=int((before > after).sum()),
            changed=int(changed.sum()),
            count=len(before),
        )


def as_table(found: Comparison) -> list[Mapping[str, Any]]:
    """Return all rows of a comparison as flat mappings, each with its part of the comparison."""
    parts = ("clean", "corrupted", "corruptions", "conditions", "classes", "costs")
    studies = dict(zip(("first_study", "second_study"), found.studies, strict=True))
    return [
        {"part": part, **asdict(row), **studies} for part in parts for row in getattr(found, part)
    ]
