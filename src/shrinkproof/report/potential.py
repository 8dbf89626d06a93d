"""Prune potential: how far a sweep may go before a condition loses more than the margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shrinkproof.metrics.robustness import GROUPS
from shrinkproof.report import wording

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a sweep may go under one condition, and what stopped it there."""

    condition: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Potential:
    """One sweep of one model.

    Attributes:
        name: sweep, and the model where the study has several.
        parameter: number that the sweep varies.
        clean: how far on clean images.
        corrupted: how far for the mean over all corruptions.
        groups: how far under each group of corruptions: that of its weakest member.
        weakest: the condition that stops first.
        steps: every condition.
        reason: why there is nothing; empty where there is something.
    """

    name: str
    parameter: str
    clean: str
    corrupted: str
    groups: tuple[str, ...]
    weakest: str
    steps: tuple[Reach, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Potentials:
    """All sweeps, with the margin that they keep."""

    margin: str
    groups: tuple[str, ...]
    lines: tuple[Potential, ...]


def potentials(exhibits: Sequence[Json], *, several_models: bool) -> Potentials:
    """Return one line per sweep and model."""
    found = {row["condition"] for item in exhibits for row in item["rows"]}
    groups = tuple(g for g, members in GROUPS.items() if found.intersection(members))
    margins = [item["margin"] for item in exhibits if item["margin"] is not None]
    return Potentials(
        margin=wording.points(margins[0]) if margins else "",
        groups=groups,
        lines=tuple(_line(item, groups, several_models=several_models) for item in exhibits),
    )


def _line(item: Json, groups: tuple[str, ...], *, several_models: bool) -> Potential:
    rows = {row["condition"]: row for row in item["rows"]}
    single = [row for name, row in rows.items() if name not in ("clean", "corrupted")]
    weakest = min(single, key=_order(item), default=None)
    return Potential(
        name=f"{item['model']}/{item['sweep']}" if several_models else item["sweep"],
        parameter=item["parameter"].replace("_", " "),
        clean=_value(rows.get("clean")),
        corrupted=_value(rows.get("corrupted")),
        groups=tuple(
            _value(min((rows[n] for n in GROUPS[g] if n in rows), key=_order(item), default=None))
            for g in groups
        ),
        weakest="" if weakest is None else wording.place_name(weakest["condition"], 0),
        steps=tuple(
            Reach(wording.place_name(name, 0), _value(row), row["reason"])
            for name, row in rows.items()
        ),
        reason=item["reason"],
    )


def _order(item: Json) -> Any:
    """Return what sorts conditions by how early they stop the walk along the sweep."""
    walked = [step["value"] for row in item["rows"] for step in row["steps"]]
    order = {value: place for place, value in enumerate(dict.fromkeys(walked))}

    def reached(row: Json) -> int:
        return -1 if row["potential"] is None else order.get(row["potential"], len(order))

    return reached


def _value(row: Json | None) -> str:
    if row is None:
        return wording.NOT_MEASURED
    return "none" if row["potential"] is None else f"{row['potential']:g}"
