"""What changed image by image: flips, damage per class, and the images that were hit hardest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.metrics.names import CHANGE
from shrinkproof.report import wording
from shrinkproof.report.plots import Damage, class_damage
from shrinkproof.report.rows import Cell, Place, Row
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

FLIPS: Final = ("flips.churn", "flips.negative", "flips.positive", "flips.worst_class_change")

DAMAGE_LIMIT: Final = 4
"""Candidates whose classes are drawn."""
CLASS_LIMIT: Final = 12
"""Classes of one figure, those that lost most."""
IMAGE_LIMIT: Final = 5
"""Images of one candidate."""

_PLACES: Final[tuple[Place, ...]] = (CLEAN, CORRUPTED)
_WORST: Final = re.compile(r"class (.+), the smallest change of")
_PART: Final = "class="
_WIDTH: Final = 180

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Flip:
    """A number, and the class that it is about; empty for all classes."""

    value: Cell
    about: str = ""


@dataclass(frozen=True, slots=True)
class FlipTable:
    """Flips of all candidates that are compared with a baseline."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, tuple[Flip, ...], bool], ...]


@dataclass(frozen=True, slots=True)
class DamageFigure:
    """Classes of one candidate: its name, the figure, and how many classes are not in it."""

    name: str
    svg: str
    others: int


@dataclass(frozen=True, slots=True)
class HitLine:
    """The images of one candidate that were hit hardest.

    Attributes:
        name: of the candidate.
        affected: images that only the baseline gets right under some condition, in words.
        images: image, class and answer, and under how many conditions it was lost.
        reason: why there are none; empty where there are.
    """

    name: str
    affected: str
    images: tuple[tuple[str, str, str], ...]
    reason: str


def flips(view: View) -> FlipTable:
    """Return churn, negative and positive flips, and the class that lost most."""
    labels = [label for label in view.labels if view.by_label[label].role != "baseline"]
    columns = tuple(
        column
        for column in (Column(metric, place) for metric in FLIPS for place in _PLACES)
        if any(view.value(label, column).value is not None for label in labels)
    )
    lines = tuple(
        (
            view.short[label],
            tuple(_flip(view, label, column) for column in columns),
            label == view.chosen,
        )
        for label in labels
    )
    return FlipTable(columns, lines if columns else ())


def _flip(view: View, label: str, column: Column) -> Flip:
    cell = view.value(label, column)
    if column.metric != FLIPS[-1] or cell.value is None:
        return Flip(cell)
    found = _WORST.search(cell.note)
    text = wording.difference(column.metric, "fraction", cell.value)
    return Flip(
        Cell(text, cell.interval, cell.note, cell.state, value=cell.value),
        f"class {found.group(1)}" if found else "",
    )


def damage(view: View) -> list[DamageFigure]:
    """Return what each class lost, for the choice and a few others; the worst class first."""
    metric = CHANGE + "accuracy.recall"
    takers = [c.label for c in view.candidates if c.role == "recipe"]
    found = {label: _classes(view, label, metric) for label in view.important(takers, DAMAGE_LIMIT)}
    found = {label: classes for label, classes in found.items() if classes}
    shown = {label: classes[:CLASS_LIMIT] for label, classes in found.items()}
    ends = [value for classes in shown.values() for one in classes for value in _ends(one)]
    if not ends:
        return []
    span = (min(-1.0, 1.05 * min(ends)), max(1.0, 1.05 * max(ends)))
    order = sorted(shown, key=lambda label: label != view.chosen)
    return [
        DamageFigure(
            name=view.short[label],
            svg=class_damage(
                shown[label],
                title=view.short[label],
                name=f"classes-{place}",
                width=_WIDTH,
                span=span,
            ),
            others=len(found[label]) - len(shown[label]),
        )
        for place, label in enumerate(order)
    ]


def _classes(view: View, label: str, metric: str) -> list[Damage]:
    """Return the classes of a candidate, those that lost most under corruption first."""
    clean, corrupted = (view.rows.slices(label, metric, place) for place in _PLACES)
    parts = [part for part in {**clean, **corrupted} if part.startswith(_PART)]
    classes = [
        Damage(part.removeprefix(_PART), _change(clean.get(part)), _change(corrupted.get(part)))
        for part in parts
    ]
    known = [one for one in classes if one.clean or one.corrupted]
    return sorted(known, key=lambda one: (one.corrupted or one.clean or (0.0,))[0])


def _change(row: Row | None) -> tuple[float, float | None, float | None] | None:
    if row is None or row["value"] is None:
        return None
    low, high = (None if row[end] is None else 100 * row[end] for end in ("low", "high"))
    return 100 * row["value"], low, high


def _ends(one: Damage) -> list[float]:
    found = [*(one.clean or ()), *(one.corrupted or ())]
    return [value for value in found if value is not None]


def hit_hardest(view: View, exemplars: Sequence[Json], limit: int) -> list[HitLine]:
    """Return the images that only the baseline gets right under the most conditions."""
    by_label = {item["candidate"]: item for item in exemplars}
    shown = view.important([label for label in view.labels if label in by_label], limit)
    return [
        HitLine(
            name=view.short[label],
            affected=f"{by_label[label]['affected']} images" if by_label[label]["images"] else "",
            images=tuple(_image(by_label[label], image) for image in _first(by_label[label])),
            reason=by_label[label]["reason"],
        )
        for label in shown
    ]


def _first(item: Json) -> Sequence[Json]:
    images: Sequence[Json] = item["images"]
    return images[:IMAGE_LIMIT]


def _image(item: Json, image: Json) -> tuple[str, str, str]:
    turned = f"{image['class']} \N{RIGHTWARDS ARROW} {image['predicted']}"
    return f"#{image['index']}", turned, f"{image['count']} of {item['conditions']}"
