"""The numbers of a model card: records of the printed split, in readers' words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from shrinkproof.metrics.detection.names import (
    FALSE_PER_IMAGE,
    FLIPPED,
    ISOTONIC,
    LOST,
    MISS_RATE,
    MPC,
    MPC_OF_BASELINE,
    NEW,
    PLATT,
    RPC,
    THRESHOLD,
)
from shrinkproof.metrics.names import (
    CHANGE,
    FROM_CONTROL,
    NULL_MEAN,
    NULL_P,
    NULL_Q95,
    SCALED,
    bare_name,
)
from shrinkproof.metrics.robustness import GROUPS
from shrinkproof.records import Candidate, Record, label_of
from shrinkproof.report import wording
from shrinkproof.results import Results

CORRUPTED: Final = "corrupted"

_ROBUST: Final = (
    "robustness.mean_error",
    "robustness.worst_error",
    "robustness.retention",
    "robustness.mce",
)
_FLIPS: Final = (
    *("flips.churn", "flips.negative", "flips.positive"),
    "flips.worst_class_change",
)
_BOXES: Final = (MISS_RATE, FALSE_PER_IMAGE, LOST, NEW, FLIPPED)
_CORRECTIONS: Final = (SCALED, ISOTONIC, PLATT)
_SIZES: Final = (
    *("cost.bytes", "cost.bytes_zip", "cost.bytes_dense", "cost.bytes_packed"),
    *("cost.parameters", "cost.nonzero", "cost.macs"),
)
_TIMES: Final = ("cost.latency_median", "cost.latency_p95", "cost.memory_peak")

_MARKS: Final = ("contaminated", "simulated")
"""Status and basis that stand beside a number, because it means less than it seems to."""

_EMPTY: Final = "-"
"""Stands in a cell for a number that cannot exist, such as a baseline's change."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the card prints it; columns without any content are left out.

    Attributes:
        titles: of the columns.
        rows: as many texts each.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Facts:
    """Everything that was measured of one candidate, beside its baseline and its control.

    Args:
        results: the run.
        candidate: whom the card is about.
    """

    def __init__(self, results: Results, candidate: Candidate) -> None:
        self.results, self.candidate = results, candidate
        self.is_detector = results.spec.task == "detection"
        by_key = results.by_key
        own = by_key.get(candidate.control)
        is_control = own is not None and own.role == "control"
        self.control = own.label if own is not None and is_control else ""
        baselines = [
            c.label
            for c in results.candidates
            if (c.role, c.model) == ("baseline", candidate.model)
        ]
        self.baseline = baselines[0] if baselines and candidate.role != "baseline" else ""
        self._rows = {_place(record): record for record in results.records if self._is_used(record)}

    def _is_used(self, record: Record) -> bool:
        if label_of(record.model, record.recipe, record.repeat) not in (
            self.candidate.label,
            self.baseline,
            self.control,
        ):
            return False
        if record.evaluator in ("scores", "summary"):
            return record.form == self.results.form or record.metric == "fidelity.agreement"
        return True

    def find(
        self,
        metric: str,
        condition: str = "clean",
        *,
        label: str = "",
        slice_: str = "",
        split: str | None = None,
    ) -> Record | None:
        """Return the record of a number over all severities of a condition, or None."""
        where = self.results.printing if split is None else split
        who = label or self.candidate.label
        return self._rows.get((who, where, metric, condition, slice_))

    # tables

    def quality(self) -> Table:
        """Return the table of all scores, with their changes against baseline and control."""
        wanted = (*self._headline(), *self._flips())
        rows = [
            self._compared(metric, place) for metric, place in wanted if self.find(metric, place)
        ]
        return _without_empty(
            Table(
                (
                    *("Number", "Condition", "Images", "This model"),
                    *("Baseline", "Change", "Control", "Change from the control"),
                ),
                tuple(rows),
            )
        )

    def _compared(self, metric: str, place: str) -> tuple[str, ...]:
        own = self.find(metric, place)
        assert own is not None, "only measured numbers have a row"
        cells = [wording.metric_name(metric), wording.place_name(place, 0), f"{own.count:,}"]
        cells.append(said(own))
        for label, prefix in ((self.baseline, CHANGE), (self.control, FROM_CONTROL)):
            other = self.find(metric, place, label=label) if label else None
            cells.append(said(other) if other else _EMPTY)
            change = self.find(prefix + metric, place) if label else None
            cells.append(said(change) if change else _EMPTY)
        return tuple(cells)

    def corruptions(self) -> Table:
        """Return error or mPC under each corruption, mean over its severities, worst first."""
        metric, sign = (MPC, -1) if self.is_detector else ("robustness.error", 1)
        named = dict.fromkeys(c.corruption for c in self.results.spec.conditions_list())
        found = []
        for name in named:
            record = None if name in GROUPS else self.find(metric, name)
            if record is not None:
                found.append((name, record))
        found.sort(key=lambda pair: -2.0 if pair[1].value is None else -sign * pair[1].value)
        rows = []
        for name, record in found:
            base = self.find(metric, name, label=self.baseline or "?")
            change = self.find(CHANGE + metric, name)
            rows.append(
                (
                    wording.place_name(name, 0),
                    self._severities(name),
                    said(record),
                    said(base) if base else _EMPTY,
                    said(change) if change else _EMPTY,
                )
            )
        what = wording.metric_name(MPC) if self.is_detector else "Error"
        titles = ("Corruption", "Severities", what, "Baseline", "Change")
        return _without_empty(Table(titles, tuple(rows)))

    def _severities(self, name: str) -> str:
        levels = sorted(
            c.severity for c in self.results.spec.conditions_list() if c.corruption == name
        )
        return ", ".join(map(str, levels))

    def calibration(self) -> Table:
        """Return the errors of calibration beside what chance alone would show."""
        rows = []
        for metric in self.results.metrics:
            names = [prefix + metric for prefix in ("", *_CORRECTIONS)]
            if self.find(NULL_MEAN + metric) is None and self.find(names[-1]) is None:
                continue
            for name in names:
                chance = self.find(NULL_MEAN + name)
                own = self.find(name)
                if own is None or (chance is None and not self.is_detector):
                    continue
                limit, p = self.find(NULL_Q95 + name), self.find(NULL_P + name)
                rows.append(
                    (
                        wording.metric_name(name),
                        said(own),
                        said(chance) if chance else _EMPTY,
                        said(limit) if limit else _EMPTY,
                        said(p) if p else _EMPTY,
                    )
                )
        titles = ("Number", "This model", "Calibrated model, mean", "Up to, 19 of 20", "Chance")
        return Table(titles, tuple(rows))

    def temperature(self) -> Record | None:
        """Return the fitted temperature; it belongs to the split that decides."""
        return self.find("calibration.temperature", split=self.results.deciding)

    def threshold(self) -> Record | None:
        """Return the score from which on boxes count; it was chosen on the split that decides."""
        label = self.baseline or self.candidate.label
        return self.find(THRESHOLD, label=label, split=self.results.deciding)

    def classes(self) -> Table:
        """Return the class with the smallest recall, on clean and on all corrupted images.

        Of a detector it is the class of which most objects were missed.
        """
        metric = MISS_RATE if self.is_detector else "accuracy.recall"
        worst_of = max if self.is_detector else min
        rows = []
        for place in ("clean", CORRUPTED):
            found = list(self._of_classes(metric, place))
            if not found:
                continue
            worst = worst_of(found, key=lambda record: record.value or 0.0)
            base = self.find(metric, place, label=self.baseline or "?", slice_=worst.slice)
            rows.append(
                (
                    wording.place_name(place, 0),
                    worst.slice.removeprefix("class="),
                    f"{worst.count:,}",
                    said(worst),
                    said(base) if base else _EMPTY,
                )
            )
        what = wording.metric_name(metric) if self.is_detector else "Recall"
        titles = ("Condition", "Class", "Images", what, "Baseline")
        return _without_empty(Table(titles, tuple(rows)))

    def _of_classes(self, metric: str, place: str) -> Iterator[Record]:
        key = (self.candidate.label, self.results.printing, metric, place)
        for found, record in self._rows.items():
            is_class = record.slice.startswith("class=")
            if found[:4] == key and is_class and record.value is not None:
                yield record

    def costs(self) -> Table:
        """Return sizes, operations and times beside the baseline's."""
        rows = []
        for metric in (*_SIZES, *_TIMES):
            own = self.find(metric, split="")
            if own is None:
                continue
            base = self.find(metric, split="", label=self.baseline or "?")
            rows.append(
                (
                    wording.metric_name(metric),
                    said(own),
                    said(base) if base else _EMPTY,
                    self._factor(own, base),
                )
            )
        return _without_empty(
            Table(("Number", "This model", "Baseline", "Against it"), tuple(rows))
        )

    def _factor(self, own: Record, base: Record | None) -> str:
        if own.metric in _TIMES:
            ratio = self.find("cost.latency_ratio", split="")
            if own.metric != "cost.latency_median" or base is None or ratio is None:
                return _EMPTY
            return plain(wording.pace(ratio.value)) if ratio.value else _EMPTY
        if base is None or not own.value or not base.value:
            return _EMPTY
        return plain(wording.times(own.value, base.value))

    def machine(self) -> str:
        """Return how and where latency was timed; empty where it was not."""
        record = self.find("cost.latency_median", split="")
        return record.reason if record is not None and record.value is not None else ""

    def remarks(self) -> list[str]:
        """Return what records say about the numbers of the tables, without intervals' reasons.

        The protocol of a detector's number is one sentence and stays together.
        """
        found: dict[str, list[str]] = {}
        for metric, place in (*self._headline(), *self._flips()):
            record = self.find(metric, place)
            reason = wording.without_interval(record.reason) if record else ""
            parts = [plain(reason)] if self.is_detector else plain(reason).split("; ")
            for part in filter(None, parts):
                found.setdefault(part, []).append(wording.metric_name(metric))
        between = "; " if self.is_detector else ", "
        return [f"{between.join(dict.fromkeys(names))}: {part}" for part, names in found.items()]

    def measured(self) -> list[Record]:
        """Return the headline numbers that have a value, for the machine-readable part."""
        found = [self.find(metric, place) for metric, place in self._headline()]
        return [r for r in found if r is not None and r.value is not None]

    def _headline(self) -> list[tuple[str, str]]:
        wanted = [(metric, "clean") for metric in self.results.metrics]
        if self.is_detector:
            return wanted + [(metric, CORRUPTED) for metric in (MPC, RPC, MPC_OF_BASELINE)]
        return wanted + [(metric, CORRUPTED) for metric in ("accuracy.top1", *_ROBUST)]

    def _flips(self) -> list[tuple[str, str]]:
        wanted = _BOXES if self.is_detector else _FLIPS
        return [(metric, place) for metric in wanted for place in ("clean", CORRUPTED)]


def _place(record: Record) -> tuple[str, str, str, str, str]:
    label = label_of(record.model, record.recipe, record.repeat)
    where = record.condition or "clean"
    if record.severity:
        where = f"{where}:{record.severity}"
    return label, record.split, record.metric, where, record.slice


def said(record: Record) -> str:
    """Return a number with its interval, its unit, and what must be known to believe it."""
    if record.value is None:
        return "undefined" if record.status == "undefined" else "failed"
    row = asdict(record)
    is_change = wording.is_change(record.metric)
    text = (wording.difference if is_change else wording.amount)(
        bare_name(record.metric) if is_change else record.metric, record.unit, record.value
    )
    interval = wording.span(row)
    marks = [word for word in (record.status, record.basis) if word in _MARKS]
    tail = f" ({interval})" * bool(interval) + f" [{', '.join(marks)}]" * bool(marks)
    return plain(text + tail)


def plain(text: str) -> str:
    """Return a text with ordinary spaces, which every reader of Markdown shows."""
    return text.replace(wording.SPACE, " ")


def _without_empty(table: Table) -> Table:
    """Return a table without columns in which nothing stands."""
    kept = [
        i for i in range(len(table.titles)) if any(row[i] not in ("", _EMPTY) for row in table.rows)
    ]

    def chosen(row: Sequence[str]) -> tuple[str, ...]:
        return tuple(row[i] for i in kept)

    return Table(chosen(table.titles), tuple(chosen(row) for row in table.rows))
