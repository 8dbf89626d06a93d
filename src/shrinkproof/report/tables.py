"""The tables of the page: candidates, further metrics, cost, and what has no value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.report import wording
from shrinkproof.report.rows import REPORTED, Cell, label_of
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

if TYPE_CHECKING:
    from shrinkproof.records import Candidate, Change

COSTS: Final = (
    "cost.bytes",
    "cost.bytes_zip",
    "cost.parameters",
    "cost.nonzero",
    "cost.macs",
    "cost.latency_median",
    "cost.latency_p95",
    "cost.latency_ratio",
)
_PROBLEM_LIMIT: Final = 200


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
    """Numbers of one candidate that lack a value, or must not be trusted, for one reason."""

    candidate: str
    metric: str
    where: str
    status: str
    reason: str


def candidate_columns(view: View) -> tuple[Column, ...]:
    """Return the columns of the candidate table: headline numbers, then size and latency."""
    latency = [m for m in ("cost.latency_median", "cost.latency_p95") if view.rows.places(m)][:1]
    costs = [Column(m, ("", 0)) for m in ("cost.bytes", "cost.bytes_zip", *latency)]
    return (*view.columns(), *costs)


def candidate_lines(
    view: View, columns: Sequence[Column], changes: Mapping[str, Sequence[Change]]
) -> list[Line]:
    """Return one line per candidate: baselines, recipes and controls of each model."""
    return [_line(view, c, columns, changes.get(c.label, ())) for c in view.candidates]


def _line(
    view: View, candidate: Candidate, columns: Sequence[Column], changes: Sequence[Change]
) -> Line:
    label = candidate.label
    control = view.by_key.get(candidate.control)
    return Line(
        name=view.short[label],
        label=label,
        role=candidate.role,
        tags=_tags(view, candidate),
        origin=_origin(view, label),
        control="" if control is None else view.short[control.label],
        changes=tuple(text for change in changes for text in _steps(change)),
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
    row = view.rows.find(label, view.rows.quality, CLEAN, REPORTED)
    if row is None:
        return ""
    return ", ".join(part for part in (row["form"], row["basis"]) if part)


def _steps(change: Change) -> list[str]:
    """Return requested and achieved reduction of one step, ``prune: ratio 50 % -> 51.3 %``."""
    names = dict.fromkeys([*change.requested, *change.achieved])
    texts = []
    for name in names:
        asked, got = change.requested.get(name), change.achieved.get(name)
        if isinstance(asked, Mapping | list) or isinstance(got, Mapping | list):
            continue
        want = "" if asked is None else f"{_setting(asked)} "
        reached = "not stated" if got is None else _setting(got)
        texts.append(f"{change.step} {name}: {want}\N{RIGHTWARDS ARROW} {reached}")
    return texts or [f"{change.step}: no reduction requested"]


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def further(view: View) -> tuple[list[Column], list[tuple[str, list[Cell]]]]:
    """Return the metrics that the candidate table leaves out, clean, pooled and without place."""
    known = {(column.metric, column.place) for column in view.columns()}
    columns = [
        Column(metric, place)
        for metric in view.rows.metrics()
        if not metric.startswith((wording.CHANGE, "cost."))
        for place in view.rows.places(metric)
        if place in (CLEAN, CORRUPTED, ("", 0)) and (metric, place) not in known
    ]
    lines = [
        (view.short[label], [view.value(label, column) for column in columns])
        for label in view.labels
    ]
    return columns, lines


@dataclass(frozen=True, slots=True)
class CostLine:
    """One candidate in the cost table."""

    name: str
    cells: tuple[Cell, ...]
    machine: str
    runs: str


def costs(view: View) -> tuple[list[Column], list[CostLine]]:
    """Return the cost table; only costs that some candidate has."""
    columns = [Column(metric, ("", 0)) for metric in COSTS if view.rows.places(metric)]
    lines = []
    for label in view.labels:
        timed = view.rows.find(label, "cost.latency_median") or view.rows.find(
            label, "cost.latency_p95"
        )
        lines.append(
            CostLine(
                name=view.short[label],
                cells=tuple(view.value(label, column) for column in columns),
                machine=", ".join(view.rows.environments.get(label, ())),
                runs=str(timed["count"]) if timed is not None and timed["count"] else "",
            )
        )
    return columns, lines


def problems(view: View) -> tuple[list[Problem], int]:
    """Return what is undefined, failed or contaminated, and how many groups were cut."""
    groups: dict[tuple[str, str, str, str], dict[str, None]] = defaultdict(dict)
    for row in view.rows.unusual:
        key = (label_of(row), row["metric"], row["status"], row["reason"])
        where = wording.place_name(row["condition"], row["severity"])
        extra = [row["split"] and f"{row['split']} split", row["slice"], row["form"]]
        groups[key][", ".join(part for part in (where, *extra) if part)] = None
    found = [
        Problem(
            candidate=view.short.get(label, label),
            metric=_metric(metric),
            where=_places(list(places)),
            status=status,
            reason=reason or "no reason was recorded",
        )
        for (label, metric, status, reason), places in groups.items()
    ]
    return found[:_PROBLEM_LIMIT], max(0, len(found) - _PROBLEM_LIMIT)


def _metric(metric: str) -> str:
    name = wording.metric_name(metric.removeprefix(wording.CHANGE))
    return f"Change of {name}" if metric.startswith(wording.CHANGE) else name


def _places(places: Sequence[str]) -> str:
    if len(places) <= 4:
        return "; ".join(place for place in places if place)
    return "; ".join(places[:3]) + f"; and {len(places) - 3} more"
