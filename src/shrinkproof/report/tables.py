"""The tables of the page: candidates, further metrics, and what has no value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shrinkproof.report import wording
from shrinkproof.report.rows import Cell, Row, label_of, reason_of
from shrinkproof.report.scaling import SCALING
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

if TYPE_CHECKING:
    from shrinkproof.records import Candidate, Change

_PROBLEM_LIMIT: Final = 200
_OF_TRAINING: Final = ("accuracy", "loss", "images")
"""What fine-tuning reports about its own images; on this page it must not look like a result."""

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Measured:
    """A number and its change against the baseline."""

    value: Cell
    change: Cell | None = None
    factor: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One candidate in the candidate table."""

    name: str
    label: str
    role: str
    tags: tuple[str, ...]
    origin: str
    control: str
    changes: tuple[str, ...]
    cells: tuple[Measured, ...]
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Numbers of some candidates that lack a value, or must not be trusted, for one reason."""

    candidate: str
    metric: str
    where: str
    status: str
    reason: str


def candidate_columns(view: View) -> tuple[Column, ...]:
    """Return the columns of the candidate table: headline numbers, then size and latency."""
    return (*view.headline(), *view.costs())


def candidate_lines(
    view: View, columns: Sequence[Column], changes: Mapping[str, Sequence[Change]]
) -> list[Line]:
    """Return one line per candidate: baselines, recipes and controls of each model."""
    return [_line(view, c, columns, changes.get(c.label, ())) for c in view.candidates]


def _line(
    view: View, candidate: Candidate, columns: Sequence[Column], changes: Sequence[Change]
) -> Line:
    label = candidate.label
    control = view.control(label)
    return Line(
        name=view.short[label],
        label=label,
        role=candidate.role,
        tags=_tags(view, candidate),
        origin=_origin(view, label),
        control=view.short[control] if control else "",
        changes=tuple(_step(change) for change in changes),
        cells=tuple(_measured(view, label, column) for column in columns),
        is_chosen=label == view.chosen,
    )


def _measured(view: View, label: str, column: Column) -> Measured:
    if column.metric.startswith("cost."):
        return Measured(view.value(label, column), factor=view.factor(label, column.metric))
    return Measured(view.value(label, column), change=view.change(label, column))


def _tags(view: View, candidate: Candidate) -> tuple[str, ...]:
    decision, label = view.decision, candidate.label
    tags = ["chosen"] if label == view.chosen else []
    tags += ["front"] if label in view.front else []
    tags += [candidate.role] if candidate.role != "recipe" else []
    if decision is not None:
        tags += ["breaks a rule"] if label in decision.infeasible else []
        tags += ["not comparable"] if label in decision.undefined else []
        tags += ["dominated"] if label in decision.dominated else []
    return tuple(tags)


def _origin(view: View, label: str) -> str:
    row = view.rows.find(label, view.rows.quality, CLEAN)
    if row is None:
        return ""
    return ", ".join(part for part in (row["form"], row["basis"]) if part)


def _step(change: Change) -> str:
    """Return what was requested and achieved: ``prune: ratio 0.5 -> 0.513 (sparsity 0.509)``."""
    asked = [
        f"{_word(name)} {_setting(value)} \N{RIGHTWARDS ARROW} "
        + (_setting(change.achieved[name]) if name in change.achieved else "not stated")
        for name, value in change.requested.items()
    ]
    if not asked:
        asked = ["no reduction requested"]
    kind = "training " if change.step == "finetune" else ""
    further = [
        f"{kind if name in _OF_TRAINING else ''}{_word(name)} {_setting(value)}"
        for name, value in change.achieved.items()
        if name not in change.requested
    ]
    return f"{change.step}: {', '.join(asked)}" + (f" ({', '.join(further)})" if further else "")


def _word(name: str) -> str:
    return name.replace("_", " ")


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and all(isinstance(v, int | str) for v in value.values()):
        return " ".join(f"{name}: {number}" for name, number in value.items())
    if isinstance(value, Mapping | list | tuple):
        return f"({len(value)} values)"
    return str(value)


@dataclass(frozen=True, slots=True)
class Further:
    """The metrics that no other table shows, and which of them have no value at all."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    gaps: tuple[str, ...]


def further(view: View) -> Further:
    """Return the metrics that no other table shows, clean, pooled and without place."""
    elsewhere = {*view.headline(), *(Column(metric, CLEAN) for metric in SCALING)}
    wanted = [
        Column(metric, place)
        for metric in view.rows.metrics()
        if not wording.is_change(metric) and not metric.startswith(("cost.", "fidelity."))
        for place in view.rows.places(metric)
        if place in (CLEAN, CORRUPTED, ("", 0)) and Column(metric, place) not in elsewhere
    ]
    columns = view.known(wanted)
    lines = tuple(
        (view.short[label], tuple(view.value(label, column) for column in columns))
        for label in view.labels
    )
    return Further(columns, lines, tuple(view.gaps(wanted)))


def problems(view: View) -> tuple[list[Problem], int]:
    """Return what is undefined, failed or contaminated, and how many groups were cut.

    Candidates that share a number, its places and the reason share a line.
    """
    found = _gather(
        ((row["metric"], row["status"], reason_of(row), label_of(row)), _where(view, row))
        for row in view.rows.unusual
    )
    lines = _gather(
        ((metric, status, reason, _places(list(places))), label)
        for (metric, status, reason, label), places in found.items()
    )
    shown = [
        Problem(
            candidate=_names(view, list(labels)),
            metric=_metric(metric),
            where=where,
            status=status,
            reason=reason,
        )
        for (metric, status, reason, where), labels in lines.items()
    ]
    return shown[:_PROBLEM_LIMIT], max(0, len(shown) - _PROBLEM_LIMIT)


def _gather(pairs: Iterable[tuple[_Key, str]]) -> dict[_Key, dict[str, None]]:
    """Return the values of each key, each once and in order."""
    groups: dict[_Key, dict[str, None]] = defaultdict(dict)
    for key, value in pairs:
        groups[key][value] = None
    return groups


def _names(view: View, labels: Sequence[str]) -> str:
    if len(labels) > 1 and set(labels) == set(view.labels):
        return "all candidates"
    return ", ".join(view.short.get(label, label) for label in labels)


def _where(view: View, row: Row) -> str:
    """Return where a number belongs; the form only where it is not the one that is shown."""
    place = wording.place_name(row["condition"], row["severity"])
    form = "" if row["form"] == view.rows.form.get(label_of(row)) else row["form"]
    extra = [row["split"] and f"{row['split']} split", row["slice"], form]
    return ", ".join(part for part in (place, *extra) if part)


def _metric(metric: str) -> str:
    name = wording.metric_name(wording.bare(metric))
    return f"Change of {name}" if wording.is_change(metric) else name


def _places(places: Sequence[str]) -> str:
    if len(places) <= 4:
        return "; ".join(place for place in places if place)
    return "; ".join(places[:3]) + f"; and {len(places) - 3} more"
