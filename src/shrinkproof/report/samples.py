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
HIT_LIMIT: Final = 4
"""Candidates whose hardest-hit images are listed."""

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
class Said:
    """What two networks said of one image under one condition.

    Attributes:
        condition: ``clean`` or ``fog:3``.
        picture: the image as PNG in base64; empty where there is no picture.
        baseline: class and confidence (0 to 1); None where it is unknown.
        candidate: likewise.
    """

    condition: str
    picture: str
    baseline: tuple[str, float] | None
    candidate: tuple[str, float] | None


@dataclass(frozen=True, slots=True)
class HitImage:
    """One image that was hit hardest.

    Attributes:
        index: of the image in its source.
        true: its class.
        count: conditions under which only the baseline gets it right.
        conditions: all conditions that were measured.
        under: the conditions that count.
        said: what was said of it, clean first.
    """

    index: int
    true: str
    count: int
    conditions: int
    under: tuple[str, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the page prints it: who, class, confidence, whether it is right."""

    who: str
    text: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """One image under one condition: its picture, and both answers."""

    place: str
    picture: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class HitShown:
    """One image as the page shows it."""

    title: str
    count: str
    under: str
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class HitLine:
    """The images of one candidate that were hit hardest.

    Attributes:
        name: of the candidate.
        affected: images that only the baseline gets right under some condition, in words.
        images: image, class and answer, and under how many conditions it was lost.
        shown: the same images with what both networks said; empty where that is unknown.
        unseen: shots without a picture.
        reason: why there are none; empty where there are.
    """

    name: str
    affected: str
    images: tuple[tuple[str, str, str], ...]
    shown: tuple[HitShown, ...]
    unseen: int
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


def hit_hardest(
    view: View, exemplars: Sequence[Json], images: Mapping[str, Sequence[HitImage]]
) -> list[HitLine]:
    """Return the images that only the baseline gets right under the most conditions."""
    by_label = {item["candidate"]: item for item in exemplars}
    shown = view.important([label for label in view.labels if label in by_label], HIT_LIMIT)
    return [
        HitLine(
            name=view.short[label],
            affected=f"{by_label[label]['affected']} images" if by_label[label]["images"] else "",
            images=tuple(_image(by_label[label], image) for image in _first(by_label[label])),
            shown=tuple(_shown(image) for image in images.get(label, ())),
            unseen=sum(not said.picture for one in images.get(label, ()) for said in one.said),
            reason=by_label[label]["reason"],
        )
        for label in sorted(shown, key=lambda label: label != view.chosen)
    ]


def _first(item: Json) -> Sequence[Json]:
    images: Sequence[Json] = item["images"]
    return images[:IMAGE_LIMIT]


def _image(item: Json, image: Json) -> tuple[str, str, str]:
    turned = f"{image['class']} \N{RIGHTWARDS ARROW} {image['predicted']}"
    return f"#{image['index']}", turned, f"{image['count']} of {item['conditions']}"


def _shown(image: HitImage) -> HitShown:
    return HitShown(
        title=f"#{image.index}, class {image.true}",
        count=f"lost under {image.count} of {image.conditions} conditions",
        under=", ".join(wording.condition_name(text) for text in image.under),
        shots=tuple(_shot(image, said) for said in image.said),
    )


def _shot(image: HitImage, said: Said) -> Shot:
    given = (("baseline", said.baseline), ("candidate", said.candidate))
    return Shot(
        place=wording.condition_name(said.condition),
        picture=f"data:image/png;base64,{said.picture}" if said.picture else "",
        answers=tuple(
            Answer(who, f"{name} ({100 * sure:.0f}{wording.SPACE}%)", name == image.true)
            for who, answer in given
            if answer is not None
            for name, sure in [answer]
        ),
    )
