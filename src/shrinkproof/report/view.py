"""What every section of the page looks up: candidates in order, their names, their changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shrinkproof.metrics.detection.names import MPC, MPC_OF_BASELINE, RPC
from shrinkproof.metrics.names import CHANGE
from shrinkproof.report import wording
from shrinkproof.report.rows import Cell, Place, Rows, cell_of, short_names, verdict_of
from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    from shrinkproof.decision.choice import Decision
    from shrinkproof.records import Candidate

CALCULATED: Final = "*"
"""Marks numbers that this page made itself, by subtraction or division."""

MEDIAN: Final = "cost.latency_median"
RATIO: Final = "cost.latency_ratio"
CORRUPTED: Final = ("corrupted", 0)
POOLED: Final = ("pooled", 0)
CLEAN: Final = ("clean", 0)

PROBLEMS: Final = 9
"""Section of failures and undefined values."""

_ROLES: Final = {"baseline": 0, "recipe": 1, "control": 2}


@dataclass(frozen=True, slots=True)
class Column:
    """One number that the page shows for every candidate: a metric at a place."""

    metric: str
    place: Place

    @property
    def title(self) -> str:
        """Reader's name of the metric."""
        return wording.metric_name(self.metric)

    @property
    def subtitle(self) -> str:
        """Reader's name of the condition; empty where there is none."""
        return wording.place_name(*self.place)

    @property
    def name(self) -> str:
        """Title and condition in one phrase."""
        return f"{self.title}, {self.subtitle}" if self.subtitle else self.title


class View:
    """Candidates and numbers of one page.

    Args:
        rows: the indexed table.
        candidates: all candidates of the study.
        decision: the choice, if one was asked for.
        objectives: spelled selectors of the decision.
    """

    def __init__(
        self,
        rows: Rows,
        candidates: Sequence[Candidate],
        decision: Decision | None,
        objectives: Sequence[str],
    ) -> None:
        self.rows = rows
        self.candidates = sorted(candidates, key=lambda c: (c.model, _ROLES[c.role]))
        self.decision = decision
        self.objectives = tuple(Selector.parse(text) for text in objectives)
        self.labels = [candidate.label for candidate in self.candidates]
        self.by_label: Mapping[str, Candidate] = {c.label: c for c in self.candidates}
        self.by_key: Mapping[str, Candidate] = {c.key: c for c in self.candidates}
        self.short = short_names(self.labels)
        self.front = frozenset(decision.front) if decision else frozenset()
        self.chosen = decision.chosen if decision else None
        self._baselines = {c.model: c.label for c in self.candidates if c.role == "baseline"}

    @property
    def detects(self) -> bool:
        """Whether the networks answer with boxes."""
        return self.rows.quality.startswith("detection.")

    @property
    def calibration(self) -> str:
        """Calibration error as the study spells it, with its settings."""
        return self.rows.spelled("detection.d_ece" if self.detects else "calibration.ece")

    @property
    def robustness(self) -> tuple[Column, ...]:
        """The numbers over all corruptions that candidates are compared by, the main one first.

        An mPC without its rPC says nothing about robustness.
        """
        metrics = (MPC, RPC) if self.detects else ("robustness.mean_error",)
        return tuple(Column(metric, CORRUPTED) for metric in metrics)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(dict.fromkeys(candidate.model for candidate in self.candidates))

    def important(self, labels: Sequence[str], limit: int) -> list[str]:
        """Return at most so many labels in their order; baselines, choice and front first."""
        ranked = sorted(
            labels,
            key=lambda label: (
                self.by_label[label].role != "baseline",
                label != self.chosen,
                label not in self.front,
            ),
        )
        kept = set(ranked[:limit])
        return [label for label in labels if label in kept]

    def baseline(self, label: str) -> str | None:
        """Return the label of the baseline of a candidate's model, or None without one."""
        candidate = self.by_label.get(label)
        return None if candidate is None else self._baselines.get(candidate.model)

    def control(self, label: str) -> str:
        """Return the label of a candidate's dense control; empty where there is none."""
        control = self.by_key.get(self.by_label[label].control)
        return "" if control is None or control.role != "control" else control.label

    def headline(self) -> tuple[Column, ...]:
        """Return the headline numbers: quality, robustness, calibration, then the objectives."""
        pooled = [
            Column(metric, place)
            for metric in ("robustness.mean_error", "robustness.mce")
            for place in self.rows.places(metric)[:1]
        ]
        if self.detects:
            pooled = [*self.robustness, Column(MPC_OF_BASELINE, CORRUPTED)]
            pooled = [column for column in pooled if self.rows.places(column.metric)]
        calibration = [
            Column(self.calibration, place)
            for place in (CLEAN, CORRUPTED)
            if place in self.rows.places(self.calibration)
        ]
        chosen = [
            self.column(selector)
            for selector in self.objectives
            if not selector.metric.startswith("cost.")
        ]
        columns = [Column(self.rows.quality, CLEAN), *pooled, *calibration, *chosen]
        return tuple(dict.fromkeys(columns))

    def costs(self) -> tuple[Column, ...]:
        """Return the headline costs: sizes and, where it was timed, one latency."""
        latency = [m for m in (MEDIAN, "cost.latency_p95") if self.rows.places(m)][:1]
        return tuple(Column(m, ("", 0)) for m in ("cost.bytes", "cost.bytes_zip", *latency))

    def known(self, columns: Iterable[Column]) -> tuple[Column, ...]:
        """Return the columns in which at least one candidate has a value."""
        return tuple(
            column
            for column in columns
            if any(self.value(label, column).value is not None for label in self.labels)
        )

    def gaps(self, columns: Iterable[Column]) -> list[str]:
        """Return one sentence for each column without any value, and why."""
        columns = list(columns)
        kept = self.known(columns)
        return [self._gap(column) for column in columns if column not in kept]

    def _gap(self, column: Column) -> str:
        cells = [self.value(label, column) for label in self.labels]
        states = dict.fromkeys(cell.text for cell in cells)
        notes = dict.fromkeys(cell.note for cell in cells if cell.note)
        if list(states) == [wording.NOT_MEASURED]:
            return f"{column.name}: {wording.NOT_MEASURED}."
        sentence = f"{column.name}: {' or '.join(states)} for every candidate."
        if len(notes) > 1:
            return f"{sentence} The reasons stand in section {PROBLEMS}."
        return " ".join([sentence, *(f"{note.removesuffix('.')}." for note in notes)])

    def column(self, selector: Selector) -> Column:
        """Return the column that a selector of the study means."""
        if selector.condition:
            return Column(selector.metric, (selector.condition, selector.severity))
        places = self.rows.places(selector.metric)
        pooled = CORRUPTED if CORRUPTED in places and ("", 0) not in places else ("", 0)
        return Column(selector.metric, pooled)

    def value(self, label: str, column: Column) -> Cell:
        """Return a reported number as it is printed."""
        return cell_of(self.rows.find(label, column.metric, column.place))

    def change(self, label: str, column: Column) -> Cell | None:
        """Return the change against the baseline; None for the baseline or without numbers.

        A change that the study measured is printed with its interval. Otherwise the two values
        are subtracted here, and the result is marked as calculated and not judged. What is relative
        to the baseline itself has none.
        """
        base = self.baseline(label)
        if base is None or base == label or column.metric == MPC_OF_BASELINE:
            return None
        row = self.rows.find(label, CHANGE + column.metric, column.place)
        if row is not None:
            return cell_of(row)
        own = self.rows.find(label, column.metric, column.place)
        other = self.rows.find(base, column.metric, column.place)
        if own is None or other is None or own["value"] is None or other["value"] is None:
            return None
        gap = own["value"] - other["value"]
        text = wording.difference(column.metric, own["unit"], gap) + CALCULATED
        return Cell(text, note="no interval; subtracted on this page", verdict="open", value=gap)

    def judged(self, label: str, column: Column) -> str:
        """Return the verdict on a measured change; empty without one."""
        row = self.rows.find(label, CHANGE + column.metric, column.place)
        return "" if row is None or row["value"] is None else verdict_of(row)

    def factor(self, label: str, metric: str) -> str:
        """Return how many times a cost shrank against the baseline.

        Median latencies have a measured ratio, of two files timed in turns; what is divided here
        is marked as calculated.
        """
        base = self.baseline(label)
        if base is None or base == label:
            return ""
        timed = self.rows.find(label, RATIO) if metric == MEDIAN else None
        if timed is not None and timed["value"]:
            return wording.pace(timed["value"])
        own, other = self.rows.find(label, metric), self.rows.find(base, metric)
        if own is None or other is None or not own["value"] or not other["value"]:
            return ""
        if own["unit"] == "seconds":
            return wording.pace(own["value"] / other["value"]) + CALCULATED
        return wording.times(own["value"], other["value"]) + CALCULATED

    def shown(self, limit: int) -> tuple[list[str], bool]:
        """Return the candidates that get figures of their own, and whether some were left out.

        All baselines and recipes if they are at most ``limit``; otherwise the baselines, the
        chosen candidate and the front, cut at ``limit``.
        """
        takers = [c.label for c in self.candidates if c.role != "control"]
        if len(takers) <= limit:
            return takers, False
        first = [label for label in takers if label in self._baselines.values()]
        first += [self.chosen] if self.chosen else []
        first += list(self.decision.front) if self.decision else []
        kept = set(list(dict.fromkeys(first))[:limit])
        return [label for label in takers if label in kept], True
