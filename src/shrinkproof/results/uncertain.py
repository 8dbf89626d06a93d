"""How sure the front and the choice of a run are, from its resampled numbers and its costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.decision.choice import Objective
from shrinkproof.decision.uncertain import (
    Draws,
    PairTests,
    Uncertainty,
    counted,
    dominated_by,
    indistinct,
    shares,
    shown,
    timed,
)
from shrinkproof.randomness import stream
from shrinkproof.selectors import Selector
from shrinkproof.spec.tolerance import COSTS, TIMED, Tolerance, tolerances_of
from shrinkproof.summary import Resampled
from shrinkproof.table import Number

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

# Shape suffixes: R resampled data sets, C options, T tested objectives.

LEVEL: Final = 0.95


def watched_of(results: Results) -> tuple[str, ...]:
    """Return the spelled objectives and rules that are measured on images."""
    selectors = [o.selector for o in results.objectives] + [c.selector for c in results.constraints]
    return tuple(dict.fromkeys(str(s) for s in selectors if not s.metric.startswith(COSTS)))


def quality_tolerances(results: Results) -> dict[str, float]:
    """Return the tolerance of every objective that is measured on images, in its unit."""
    return {
        text: found.number
        for text, found in _stated(results, results.objectives).items()
        if not found.is_relative and text in watched_of(results)
    }


def tolerances(
    results: Results, objectives: Sequence[Objective] | None = None, model: str = ""
) -> dict[str, float]:
    """Return the tolerance of every objective in its unit.

    A relative one is a share of the smallest value of an option, so that it is nowhere a larger
    share than stated.

    Args:
        results: a run.
        objectives: what to improve; None for the study's own.
        model: the network whose options are compared; empty for all.
    """
    found = {}
    wanted = results.objectives if objectives is None else objectives
    for text, stated in _stated(results, wanted).items():
        selector = Selector.parse(text)
        values = [
            abs(number.value)
            for candidate in results.candidates
            if candidate.role != "control" and model in ("", candidate.model)
            for number in [results.numbers.find(candidate.label, results.deciding, selector)]
            if number.value is not None
        ]
        found[text] = stated.of(min(values, default=0.0))
    return found


def uncertainty_of(results: Results) -> Uncertainty | None:
    """Return how sure front and choice are; None where the study asks for no choice."""
    decision = results.decision
    if decision is None:
        return None
    found = _Judged(results)
    if found.reason:
        return Uncertainty(results.deciding, reason=found.reason)
    assert results.spec.select is not None, "there is a decision"
    on_front, is_chosen = shares(found.draws, results.spec.select.rule)
    pairs = shown(found.tests)
    chosen = decision.chosen
    able = {*decision.front, *decision.dominated} - {*found.contaminated}
    dominated = dominated_by(found.labels, pairs, tuple(sorted(able)), LEVEL)
    others = [label for label in decision.front if label != chosen]
    return Uncertainty(
        split=results.deciding,
        replicates=found.replicates,
        level=LEVEL,
        tolerances=found.tolerances,
        front=on_front,
        chosen=is_chosen,
        dominated=dominated,
        indistinct=()
        if chosen is None
        else indistinct(found.labels, chosen, others, found.tests, found.tolerances, LEVEL),
        notes=(*_warnings(chosen, dominated), *_notes(found, pairs.family)),
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """A run as the uncertainty of its decision sees it."""

    results: Results

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All options whose numbers exist, those that break a rule included."""
        results = self.results
        selectors = [o.selector for o in results.objectives]
        selectors += [c.selector for c in results.constraints]
        return tuple(
            candidate.label
            for candidate in results.candidates
            if candidate.role != "control"
            and all(
                results.numbers.find(candidate.label, results.deciding, s).value is not None
                for s in selectors
            )
        )

    @cached_property
    def contaminated(self) -> tuple[str, ...]:
        """Options that have seen the images that decide; they are shown to dominate nobody."""
        selectors = [o.selector for o in self.results.objectives]
        return tuple(
            label
            for label in self.labels
            if any(
                self.results.numbers.find(label, self.results.deciding, s).status == "contaminated"
                for s in selectors
            )
        )

    @cached_property
    def tolerances(self) -> dict[str, float]:
        return tolerances(self.results)

    @cached_property
    def resampled(self) -> Resampled | None:
        return self.results.summary.resampled

    @property
    def replicates(self) -> int:
        return self.results.settings.replicates

    @cached_property
    def positions(self) -> list[int]:
        """Where the options stand among the resampled candidates."""
        assert self.resampled is not None, "asked for resampled numbers only"
        keys = {candidate.label: candidate.key for candidate in self.results.candidates}
        return [self.resampled.candidates.index(keys[label]) for label in self.labels]

    @property
    def reason(self) -> str:
        """Return why there is nothing to say; empty where there is."""
        if len(self.labels) < 2:
            return f"it takes two options to compare, got {len(self.labels)}"
        for objective in self.results.objectives:
            text = str(objective.selector)
            if objective.selector.metric.startswith(COSTS):
                continue
            if self.resampled is None:
                return f"there are no predictions of images on {self.results.deciding}"
            if np.isnan(self._column(text)).all(axis=0).any():
                return f"{text} has no values per image that could be resampled"
        return ""

    @cached_property
    def draws(self) -> Draws:
        """All options on every resampled data set."""
        objectives, constraints = self.results.objectives, self.results.constraints
        values = [self.drawn(o.selector) for o in objectives]
        rules = [self.drawn(c.selector) for c in constraints]
        shape = (self.replicates, len(self.labels), 0)
        return Draws(
            labels=self.labels,
            objectives=objectives,
            values=np.stack(values, axis=2),
            constraints=constraints,
            rules=np.stack(rules, axis=2) if rules else np.empty(shape),
            tolerance=np.array(
                [
                    self.tolerances[str(o.selector)] if o.selector.metric.startswith(COSTS) else 0.0
                    for o in objectives
                ]
            ),
        )

    @cached_property
    def tests(self) -> list[PairTests]:
        """What is known of every pair, one per objective."""
        return [self._tests_of(objective) for objective in self.results.objectives]

    @cached_property
    def held(self) -> tuple[str, ...]:
        """Estimated numbers that are the same on every resampled data set, because they must be."""
        selectors = [o.selector for o in self.results.objectives]
        selectors += [c.selector for c in self.results.constraints]
        found = []
        for selector in dict.fromkeys(selectors):
            if selector.metric.startswith(TIMED):
                is_held = bool(np.isnan(self._errors(selector)).any())
            elif selector.metric.startswith(COSTS):
                is_held = False
            else:
                is_held = bool(np.isnan(self._column(str(selector))).all(axis=0).any())
            if is_held:
                found.append(str(selector))
        return tuple(found)

    def drawn(self, selector: Selector) -> NDArray[np.float64]:
        """Return a number of every option on every resampled data set, (R, C)."""
        values_C = np.array([n.value for n in self._numbers(selector)], dtype=np.float64)
        still_RC = np.broadcast_to(values_C, (self.replicates, len(values_C)))
        if selector.metric.startswith(TIMED):
            errors_C = np.nan_to_num(self._errors(selector))
            noise = stream("times", self.results.spec.seed, str(selector))
            steps_RC = noise.standard_t(self._freedom, size=still_RC.shape)
            return np.asarray(still_RC * np.exp(errors_C * steps_RC))
        if selector.metric.startswith(COSTS):
            return still_RC
        column_RC = self._column(str(selector))
        return np.where(np.isnan(column_RC).all(axis=0), still_RC, column_RC)

    def _column(self, text: str) -> NDArray[np.float64]:
        """Return the resampled values of a number, (R, C); NaN where there are none."""
        kept = self.resampled
        if kept is None or text not in kept.watched:
            return np.full((self.replicates, len(self.labels)), math.nan)
        position = kept.watched.index(text)
        return np.asarray(kept.values[:, self.positions, position], dtype=np.float64)

    def _numbers(self, selector: Selector) -> list[Number]:
        find, split = self.results.numbers.find, self.results.deciding
        return [find(label, split, selector) for label in self.labels]

    @property
    def _freedom(self) -> int:
        """Degrees of freedom of the interval of a time."""
        cost = self.results.spec.measure.cost
        latency = None if cost is None else cost.latency
        return max(1, (5 if latency is None else latency.processes) - 1)

    def _errors(self, selector: Selector) -> NDArray[np.float64]:
        """Return the standard error of the logarithm of each time, (C,); NaN without interval."""
        from scipy.special import stdtrit

        width = 2 * float(stdtrit(self._freedom, (1 + LEVEL) / 2))
        return np.array(
            [
                math.log(n.high / n.low) / width if n.low and n.high else math.nan
                for n in self._numbers(selector)
            ]
        )

    def _tests_of(self, objective: Objective) -> PairTests:
        selector, tolerance = objective.selector, self.tolerances[str(objective.selector)]
        values_C = np.array([n.value for n in self._numbers(selector)], dtype=np.float64)
        if selector.metric.startswith(TIMED):
            return timed(objective, values_C, self._errors(selector), self._freedom, tolerance)
        if selector.metric.startswith(COSTS):
            return counted(objective, values_C, tolerance)
        kept = self.resampled
        assert kept is not None, "there are reasons otherwise"
        position = kept.tested.index(str(selector))
        square = np.ix_([position], self.positions, self.positions)
        reasons_CC = kept.reasons[square][0]
        return PairTests(
            str(selector),
            no_worse=kept.no_worse[square][0],
            better=kept.better[square][0],
            is_counted=False,
            spread=kept.spread[square][0],
            why={
                (i, j): kept.texts[int(reasons_CC[i, j])]
                for i, j in np.argwhere(reasons_CC > 0).tolist()
            },
            images=kept.images,
        )


def _warnings(chosen: str | None, dominated: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield where what is shown within the tolerances speaks against the choice, or both ways."""
    if chosen is not None and chosen in dominated:
        yield (
            f"The choice itself, {chosen}, is shown to be dominated within the tolerances by "
            f"{', '.join(dominated[chosen])}: the rule compares numbers of images without "
            "tolerance. Look at both."
        )
    mutual = [
        f"{a} and {b}"
        for a, found in dominated.items()
        for b in found
        if a < b and a in dominated.get(b, ())
    ]
    if mutual:
        yield (
            f"{'; '.join(mutual)} are shown to dominate each other: each is better in something, "
            "and all differences are within the tolerances."
        )


def _notes(found: _Judged, family: int) -> Iterator[str]:
    results = found.results
    yield (
        f"The {results.deciding} images were resampled {found.replicates:,} times, the same for "
        "all options; trainings were not repeated, so shares say nothing of other seeds."
    )
    estimated = sum(not test.is_counted for test in found.tests)
    union = f", Bonferroni over {estimated} estimated objectives" if estimated > 1 else ""
    yield (
        "Dominance is shown where an option is no worse beyond the tolerance in every objective "
        f"and better in one (intersection-union test{union}), Holm over {family} ordered pairs: "
        f"with {100 * LEVEL:g} % confidence none of these statements is false."
    )
    for test in found.tests:
        is_tested = bool(np.isfinite(test.no_worse).any()) and not test.is_counted
        if is_tested and not found.tolerances[test.objective]:
            yield (
                f"{test.objective} has tolerance 0: being no worse can then be shown only by being "
                "better; name the loss that matters in select.tolerance or measure.margins."
            )
        yield from _untested(test, len(found.labels))
    if found.contaminated:
        yield (
            f"{', '.join(found.contaminated)}: contaminated numbers, which are shown to dominate "
            "nobody; the shares are too good for them."
        )
    for text in found.held:
        yield (
            f"{text} cannot be resampled and keeps its value on every data set: the shares look "
            "surer than they are."
        )


def _untested(test: PairTests, count: int) -> Iterator[str]:
    pairs = {(min(pair), max(pair)) for pair in test.why if pair[0] != pair[1]}
    if not pairs:
        return
    first, *others = dict.fromkeys(test.why[pair] for pair in sorted(test.why))
    yield (
        f"{test.objective}: {len(pairs)} of {count * (count - 1) // 2} pairs lack a test: {first}"
        f"{', and the like' if others else ''}."
    )


def _stated(results: Results, objectives: Sequence[Objective]) -> Mapping[str, Tolerance]:
    selectors = [objective.selector for objective in objectives]
    return tolerances_of(selectors, results.spec.select, results.spec.measure.margins)
