"""The tables of the page: candidates, further metrics, and what has no value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shrinkproof.metrics.names import NULL_MEAN, NULL_P, without_prefixes
from shrinkproof.report import wording
from shrinkproof.report.rows import Cell, Place, Unusual, label_of, reason_of
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

if TYPE_CHECKING:
    from shrinkproof.records import Candidate, Change

_PROBLEM_LIMIT: Final = 200
_OF_TRAINING: Final = ("accuracy", "loss", "images")
"""What fine-tuning reports about its own images; on this page it must not look like a result."""

_WIDEST: Final = 7
"""Columns of one table of further metrics."""
_OWN_SECTION: Final = (
    *("calibration.", "selective.", "robustness.", "flips.", "saliency.", "fidelity.", "cost."),
    *("accuracy.recall", "boxes.", "detection.d_ece", "detection.laece", "detection.laace"),
)
"""Metrics that the other sections show."""

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Measured:
    """A number and its change against the baseline."""

    value: Cell
    change: Cell | None = None
    factor: str = ""
    chance: str = ""


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
    return Measured(
        view.value(label, column),
        change=view.change(label, column),
        chance=_chance(view, label, column),
    )


def _chance(view: View, label: str, column: Column) -> str:
    """Return what a calibrated detector would show instead of its error; else empty.

    Errors of classifiers stand beside chance in their own section.
    """
    if not view.detects or column.metric != view.calibration:
        return ""
    level = view.value(label, Column(NULL_MEAN + column.metric, column.place))
    return "" if level.value is None else f"chance {level.text}"


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
    """Metrics that no other table shows.

    Attributes:
        tables: columns of each table, and its lines: name of the candidate, and each number with
            the p-value of chance where it has one.
        gaps: sentences about metrics without any value.
    """

    tables: tuple[
        tuple[tuple[Column, ...], tuple[tuple[str, tuple[tuple[Cell, str], ...]], ...]], ...
    ]
    gaps: tuple[str, ...]


def further(view: View, families: Sequence[str] = (), elsewhere: Sequence[Column] = ()) -> Further:
    """Return the metrics that no other table shows, clean, pooled and without place.

    What is computed from another number (changes, null levels, p-values) has tables of its own.

    Args:
        view: the numbers.
        families: how their names start; all that no section has where empty.
        elsewhere: columns that another table shows.
    """
    shown = {*view.headline(), *elsewhere}
    wanted = [
        Column(metric, place)
        for metric in view.rows.metrics()
        if without_prefixes(metric) == metric and _belongs(metric, families)
        for place in view.rows.places(metric)
        if place in (CLEAN, CORRUPTED, ("", 0)) and Column(metric, place) not in shown
    ]
    columns = view.known(wanted)
    parts = [columns[at : at + _WIDEST] for at in range(0, len(columns), _WIDEST)]
    return Further(
        tables=tuple(
            (
                part,
                tuple(
                    (view.short[label], tuple(_with_chance(view, label, c) for c in part))
                    for label in view.labels
                ),
            )
            for part in parts
        ),
        gaps=tuple(view.gaps(wanted)),
    )


def _belongs(metric: str, families: Sequence[str]) -> bool:
    return metric.startswith(tuple(families)) if families else not metric.startswith(_OWN_SECTION)


def _with_chance(view: View, label: str, column: Column) -> tuple[Cell, str]:
    p = view.value(label, Column(NULL_P + column.metric, column.place))
    return view.value(label, column), "" if p.value is None else p.text


def problems(view: View) -> tuple[list[Problem], int]:
    """Return what is undefined, failed or contaminated, and how many groups were cut.

    Candidates and numbers that share places and the reason share a line.
    """
    found = _gather(
        (_shared(item), _place(view, item, place))
        for item in view.rows.unusual
        for place in item.places
    )
    of_candidates = _gather(
        ((status, reason, label, _places(list(places))), metric)
        for (metric, status, reason, label), places in found.items()
    )
    lines = _gather(
        ((status, reason, where, _listed([wording.metric_name(m) for m in metrics])), label)
        for (status, reason, label, where), metrics in of_candidates.items()
    )
    shown = [
        Problem(_names(view, list(labels)), metric, where, status, reason)
        for (status, reason, where, metric), labels in lines.items()
    ]
    return shown[:_PROBLEM_LIMIT], max(0, len(shown) - _PROBLEM_LIMIT)


def _shared(item: Unusual) -> tuple[str, str, str, str]:
    row = item.row
    return row["metric"], row["status"], reason_of(row), label_of(row)


def _gather(pairs: Iterable[tuple[_Key, str]]) -> dict[_Key, dict[str, None]]:
    """Return the values of each key, each once and in order."""
    groups: dict[_Key, dict[str, None]] = defaultdict(dict)
    for key, value in pairs:
        groups[key][value] = None
    return groups


def _names(view: View, labels: Sequence[str]) -> str:
    """Return who is meant; all of a study or of a model in two words."""
    if len(labels) > 1 and set(labels) == set(view.labels):
        return "all candidates"
    left = list(labels)
    names = []
    for model in view.models if len(view.models) > 1 else ():
        members = [c.label for c in view.candidates if c.model == model]
        if len(members) > 1 and set(members) <= set(left):
            names.append(f"all of {model}")
            left = [label for label in left if label not in members]
    return ", ".join([*names, *(view.short.get(label, label) for label in left)])


def _place(view: View, item: Unusual, place: Place) -> str:
    """Return where a number belongs; the form only where it is not the one that is shown."""
    row = item.row
    form = "" if row["form"] == view.rows.form.get(label_of(row)) else row["form"]
    extra = [row["split"] and f"{row['split']} split", row["slice"], form]
    return ", ".join(part for part in (wording.place_name(*place), *extra) if part)


def _listed(names: Sequence[str]) -> str:
    if len(names) <= 3:
        return "; ".join(names)
    return f"{'; '.join(names[:2])}; and {len(names) - 2} more numbers"


def _places(places: Sequence[str]) -> str:
    if len(places) <= 4:
        return "; ".join(place for place in places if place)
    return "; ".join(places[:3]) + f"; and {len(places) - 3} more"
