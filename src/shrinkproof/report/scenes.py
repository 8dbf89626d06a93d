"""Images with boxes drawn on them: baseline beside candidate, clean beside corrupted.

Everything is placed here, in units in which the longest side of an image has 320; the page only
writes it down. Colors and dashes are those of the style sheet, so that kinds differ in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.report import wording
from shrinkproof.report.view import View

SIDE: Final = 320.0
"""Longest side of an image on the page, in its own units."""
CANDIDATE_LIMIT: Final = 4
"""Candidates whose images are shown."""
FIRST_SCENES: Final = 4
"""Images of the first candidate side by side, clean and corrupted."""
OTHER_SCENES: Final = 2
"""The same of each other candidate."""
HIT_LIMIT: Final = 3
"""Images hit hardest of a candidate."""

SCENES: Final = "detected-scenes"
IMAGES: Final = "detected-images"

KINDS: Final = {
    "truth": "object, as annotated",
    "right": "right box",
    "wrong": "wrong box",
    "lost": "object that only the baseline finds",
    "ignored": "box that does not count (crowd)",
    "crowd": "crowd of objects",
}
"""Kinds of drawn boxes, in drawing order, and what each is."""

THIN: Final = ("truth", "crowd", "ignored")
"""Kinds that stand back behind the others."""

_OVERLAP: Final = 0.5
"""Overlap from which on a right box and an object of its class are the same thing."""
_LETTER: Final = 6.1
_LINE: Final = 11.0
_LONGEST: Final = 16
"""Letters of a class name beside a box; the words below have all."""

Json = Mapping[str, Any]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
Shot = tuple[int, str]
"""Index of an image in its source, and the spelled condition."""


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside a box; ``x`` is its left end, ``y`` its base line."""

    kind: str
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One image as one network sees it.

    Attributes:
        who: ``baseline`` or ``candidate``.
        place: the condition, in words.
        shot: number of the picture on the page; None where there is no picture.
        width: of the image, in units of the page.
        height: likewise.
        paths: kind -> all its boxes, as one path.
        labels: texts that have room.
        counts: what was found, in words.
        title: text alternative.
        words: all boxes, one phrase each.
    """

    who: str
    place: str
    shot: int | None
    width: float
    height: float
    paths: Mapping[str, str]
    labels: tuple[Label, ...]
    counts: str
    title: str
    words: tuple[str, ...]

    @property
    def outlines(self) -> tuple[tuple[str, str], ...]:
        """Thin and thick boxes, each as one path: their dark edge shows on any picture."""
        thin = "".join(path for kind, path in self.paths.items() if kind in THIN)
        thick = "".join(path for kind, path in self.paths.items() if kind not in THIN)
        return tuple((name, path) for name, path in (("thin", thin), ("thick", thick)) if path)


@dataclass(frozen=True, slots=True)
class Scene:
    """One image: title, and panels of baseline and candidate in turns."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """The images of one candidate.

    Attributes:
        name: of the candidate.
        scenes: images side by side, clean and corrupted.
        hits: images hit hardest.
        about: how many images were hit, in words; empty where nothing is known.
    """

    name: str
    scenes: tuple[Scene, ...]
    hits: tuple[Scene, ...]
    about: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that several panels show: data link and size in units of the page."""

    link: str
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Scenes:
    """All images with boxes.

    Attributes:
        pictures: what panels refer to by number.
        candidates: the choice first.
        kinds: kind and what it is, those that occur.
        unseen: panels without a picture.
        threshold: score from which on boxes are drawn, in words.
    """

    pictures: tuple[Picture, ...] = ()
    candidates: tuple[Seen, ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()
    unseen: int = 0
    threshold: str = ""


def wanted_shots(
    exhibits: Mapping[str, Sequence[Json]], chosen: str | None, front: Sequence[str]
) -> list[Shot]:
    """Return the pictures that the page shows, the most important ones first."""
    found: dict[Shot, None] = {}
    for scenes, hits in _shown(exhibits, chosen, front):
        for image in scenes:
            found |= dict.fromkeys((image["index"], at) for at in _conditions(image))
        found |= dict.fromkeys((image["index"], image["condition"]) for image in hits)
    return list(found)


def scenes(view: View, exhibits: Mapping[str, Sequence[Json]], links: Mapping[Shot, str]) -> Scenes:
    """Return the images with boxes that the page shows; empty where there are none.

    Args:
        view: the numbers.
        exhibits: kind -> what the summary found.
        links: pictures as data links.
    """
    drawer = _Drawer(links)
    items = _in_order(exhibits.get(SCENES, ()), view.chosen, tuple(view.front))
    candidates = []
    shown = _shown(exhibits, view.chosen, tuple(view.front))
    for item, (side_by_side, hits) in zip(items, shown, strict=False):
        found = Seen(
            name=view.short.get(item["candidate"], item["candidate"]),
            scenes=tuple(drawer.scene(image) for image in side_by_side),
            hits=tuple(drawer.hit(image) for image in hits),
            about=_about(exhibits, item["candidate"]),
        )
        if found.scenes or found.hits:
            candidates.append(found)
    thresholds = dict.fromkeys(
        f"{item['threshold']:.3f}" for item in items if item["threshold"] is not None
    )
    return Scenes(
        pictures=tuple(drawer.pictures),
        candidates=tuple(candidates),
        kinds=tuple((kind, text) for kind, text in KINDS.items() if kind in drawer.kinds),
        unseen=drawer.unseen,
        threshold=" or ".join(thresholds),
    )


def _in_order(items: Iterable[Json], chosen: str | None, front: Sequence[str]) -> list[Json]:
    """Return the exhibits of the candidates that are shown, the choice first."""
    ranked = sorted(
        (item for item in items if item["images"]),
        key=lambda item: (item["candidate"] != chosen, item["candidate"] not in front),
    )
    return ranked[:CANDIDATE_LIMIT]


def _shown(
    exhibits: Mapping[str, Sequence[Json]], chosen: str | None, front: Sequence[str]
) -> Iterator[tuple[Sequence[Json], Sequence[Json]]]:
    """Yield the images side by side and those hit hardest of each candidate that is shown."""
    hits = {item["candidate"]: item["images"] for item in exhibits.get(IMAGES, ())}
    for rank, item in enumerate(_in_order(exhibits.get(SCENES, ()), chosen, front)):
        most = OTHER_SCENES if rank else FIRST_SCENES
        yield item["images"][:most], hits.get(item["candidate"], ())[:HIT_LIMIT]


def _about(exhibits: Mapping[str, Sequence[Json]], label: str) -> str:
    found = next((i for i in exhibits.get(IMAGES, ()) if i["candidate"] == label), None)
    return f"{found['affected']} images affected" if found and found["affected"] else ""


def _conditions(image: Json) -> list[str]:
    """Return under which conditions an image stands side by side."""
    return ["clean", *([image["condition"]] if image["condition"] else [])]


class _Drawer:
    """Draws panels, and keeps each picture once.

    Args:
        links: pictures as data links.
    """

    def __init__(self, links: Mapping[Shot, str]) -> None:
        self.pictures: list[Picture] = []
        self.kinds: set[str] = set()
        self.unseen = 0
        self._links = links
        self._numbers: dict[Shot, int] = {}

    def scene(self, image: Json) -> Scene:
        """Return one image side by side, clean and corrupted."""
        panels: list[Panel] = []
        for how, condition in zip(("clean", "corrupted"), _conditions(image), strict=False):
            panels += self._pair(
                image, condition, image[f"baseline_{how}"], image[f"candidate_{how}"]
            )
        return Scene(f"Image #{image['index']}", tuple(panels))

    def hit(self, image: Json) -> Scene:
        """Return one image hit hardest, under the condition that costs it most."""
        found = self._pair(image, image["condition"], image["baseline"], image["candidate"])
        costs = [f"{image['lost']} lost" if image["lost"] else ""]
        costs += [f"{image['new']} wrong ones added" if image["new"] else ""]
        place = wording.condition_name(image["condition"])
        told = f"{place}; {', '.join(filter(None, costs))}"
        return Scene(f"Image #{image['index']}, {told}", tuple(found))

    def _pair(
        self, image: Json, condition: str, baseline: Sequence[Json], candidate: Sequence[Json]
    ) -> list[Panel]:
        found = {
            who: _found(image["objects"], boxes)
            for who, boxes in (("baseline", baseline), ("candidate", candidate))
        }
        lost = found["baseline"] - found["candidate"]
        return [
            self._panel(image, condition, "baseline", baseline, found["baseline"], set()),
            self._panel(image, condition, "candidate", candidate, found["candidate"], lost),
        ]

    def _panel(
        self,
        image: Json,
        condition: str,
        who: str,
        boxes: Sequence[Json],
        found: set[int],
        lost: set[int],
    ) -> Panel:
        height, width = image["size"]
        unit = SIDE / max(height, width)
        marks = [*_truth(image["objects"], lost), *_detections(boxes)]
        self.kinds |= {kind for kind, _, _, _ in marks}
        paths = {
            kind: "".join(_path(box, unit) for k, box, _, _ in marks if k == kind)
            for kind in KINDS
            if any(mark[0] == kind for mark in marks)
        }
        size = (round(width * unit, 1), round(height * unit, 1))
        place = wording.condition_name(condition)
        counts = _counts(image["objects"], boxes, found, lost)
        return Panel(
            who=who,
            place=place,
            shot=self._shot((image["index"], condition), size),
            width=size[0],
            height=size[1],
            paths=paths,
            labels=tuple(_labels(marks, unit, size)),
            counts=counts,
            title=f"Image {image['index']}, {place}, {who}: {counts}. "
            "The boxes are listed below the images.",
            words=tuple(words for _, _, _, words in marks),
        )

    def _shot(self, shot: Shot, size: tuple[float, float]) -> int | None:
        """Return the number of a picture; None where there is none."""
        if shot not in self._links:
            self.unseen += 1
            return None
        if shot not in self._numbers:
            self._numbers[shot] = len(self.pictures)
            self.pictures.append(Picture(self._links[shot], *size))
        return self._numbers[shot]


Mark = tuple[str, Box, str, str]
"""Kind, box in pixels of the image, text beside it (empty for none), and the box in words."""


def _truth(objects: Sequence[Json], lost: set[int]) -> Iterator[Mark]:
    """Yield what is true of an image; objects that only the baseline finds are a kind apart."""
    for at, one in enumerate(objects):
        box = _box(one)
        if one["crowd"]:
            yield "crowd", box, "", f"crowd of {one['class']} {_at(box)}"
        elif at in lost:
            yield "lost", box, _short(one["class"]), f"lost {one['class']} {_at(box)}"
        else:
            yield "truth", box, "", f"object {one['class']} {_at(box)}"


def _detections(boxes: Sequence[Json]) -> Iterator[Mark]:
    for one in sorted(boxes, key=lambda one: (one["state"] != "wrong", -one["score"])):
        box, kind = _box(one), one["state"] if one["state"] in KINDS else "ignored"
        text = f"{_short(one['class'])} {one['score']:.2f}"
        yield kind, box, text, f"{kind} {one['class']} {one['score']:.2f} {_at(box)}"


def _found(objects: Sequence[Json], boxes: Sequence[Json]) -> set[int]:
    """Return the objects that right boxes find, each box one, by falling score."""
    found: set[int] = set()
    right = (one for one in boxes if one["state"] == "right")
    for one in sorted(right, key=lambda one: -one["score"]):
        free = [
            (_iou(_box(one), _box(objects[at])), at)
            for at in range(len(objects))
            if at not in found and not objects[at]["crowd"] and objects[at]["class"] == one["class"]
        ]
        best = max(free, default=(0.0, -1))
        # Stored boxes are rounded, so an overlap may fall just below what was reached.
        if best[0] >= _OVERLAP - 0.01:
            found.add(best[1])
    return found


def _counts(objects: Sequence[Json], boxes: Sequence[Json], found: set[int], lost: set[int]) -> str:
    whole = [at for at, one in enumerate(objects) if not one["crowd"]]
    wrong = sum(one["state"] == "wrong" for one in boxes)
    parts = [f"{len(found)} of {len(whole)} objects found"]
    parts += [f"{len(lost)} lost"] if lost else []
    parts += [f"{wrong} wrong box{'es' if wrong > 1 else ''}"] if wrong else []
    return ", ".join(parts)


def _labels(marks: Sequence[Mark], unit: float, size: tuple[float, float]) -> Iterator[Label]:
    """Yield the texts that find a free place beside their box, the important ones first."""
    taken: list[Box] = []
    order = ("lost", "wrong", "right", "ignored")
    named = sorted((mark for mark in marks if mark[2]), key=lambda mark: order.index(mark[0]))
    for kind, box, text, _ in named:
        left, top, right, bottom = (unit * value for value in box)
        length = _LETTER * len(text)
        spots = [(left, top - _LINE), (left + 2, top + 1), (left, bottom), (right - length, bottom)]
        for x, y in spots:
            x = min(max(x, 1.0), size[0] - length - 1)
            place = (x, y, x + length, y + _LINE)
            inside = y >= 0 and y + _LINE <= size[1] and x >= 0
            if inside and not any(_meets(place, other) for other in taken):
                taken.append(place)
                yield Label(kind, round(x, 1), round(y + _LINE - 2.5, 1), text)
                break


def _meets(first: Box, second: Box) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _iou(first: Box, second: Box) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    return both / (_area(first) + _area(second) - both)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _box(one: Json) -> Box:
    left, top, right, bottom = (float(value) for value in one["box"])
    return left, top, right, bottom


def _at(box: Box) -> str:
    left, top, right, bottom = (round(value) for value in box)
    return f"at {left}, {top} to {right}, {bottom}"


def _path(box: Box, unit: float) -> str:
    left, top, right, bottom = (round(unit * value, 1) for value in box)
    return f"M{left:g} {top:g}H{right:g}V{bottom:g}H{left:g}Z"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
