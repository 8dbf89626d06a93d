"""What the network looks at: heat maps beside the baseline's, and what their controls say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.report import wording
from shrinkproof.report.rows import ABSENT, Cell, Row, cell_of
from shrinkproof.report.view import CLEAN, Column, View

METRICS: Final = (
    "saliency.hcc",
    "saliency.hcc_common",
    "saliency.ssim",
    "saliency.topk",
    "saliency.undefined",
)
"""Numbers of the table, in its order; those of single parts come after the first."""

UNMATCHED: Final = "saliency.unmatched"
"""Stands in the table where boxes are explained: the others are about matched pairs."""

PARTS: Final = ("baseline=right", "baseline=wrong")

PICTURES: Final = 500_000
"""Characters of embedded pictures: about a quarter of the largest page."""

_CONTROLS: Final = {
    "control=randomized": ("randomized network", "lower bound: same network, weights drawn anew"),
    "control=other-image": ("other image", "chance level: maps of two different images"),
    "control=twin": ("independent twin", "noise level: the same task, trained independently"),
    "control=split-half": ("split half", "reliability: the same network, other masks"),
}
"""Slices of the baseline's rows that are about no compressed network."""

_METHOD: Final = "[method="
_PARTS: Final = ("baseline right", "baseline wrong")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LookLine:
    """One candidate, or one control.

    Attributes:
        name: of the candidate or control.
        about: what a control stands for; empty for candidates.
        cells: correlation, that where the baseline is right and wrong, then the other numbers.
        is_control: whether it is a yardstick only.
        is_chosen: whether it is the choice.
    """

    name: str
    about: str
    cells: tuple[Cell, ...]
    is_control: bool
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class LookTable:
    """One method on one model.

    Attributes:
        model: name of the model; empty where the study has one.
        about: method, layer and resolution of the maps, with their warning.
        columns: titles.
        lines: candidates, then controls.
        saying: what the controls say, in one sentence; empty without controls.
    """

    model: str
    about: str
    columns: tuple[str, ...]
    lines: tuple[LookLine, ...]
    saying: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One image with both maps, as data links.

    Attributes:
        caption: what it is.
        image: the image.
        baseline: map of the baseline.
        candidate: map of the candidate.
        boxes: path of the box of baseline and candidate, in percent; empty for whole images.
    """

    caption: str
    image: str
    baseline: str
    candidate: str
    boxes: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Strip:
    """The images of a candidate whose maps agree least with the baseline's."""

    name: str
    about: str
    pictures: tuple[Picture, ...]


def tables(view: View) -> list[LookTable]:
    """Return one table per method and model; none where no heat maps were made."""
    found = (_table(view, model, method) for method in _methods(view) for model in view.models)
    return [table for table in found if table is not None]


def _methods(view: View) -> list[str]:
    """Return what stands in brackets behind the metrics of each method; empty for the first."""
    metrics = [m for m in view.rows.metrics() if m.partition("[")[0] == METRICS[0]]
    return [metric.removeprefix(METRICS[0]) for metric in metrics]


def _table(view: View, model: str, method: str) -> LookTable | None:
    metrics = (*METRICS, UNMATCHED) if view.detects else METRICS
    names = [metric + method for metric in metrics]
    candidates = [c for c in view.candidates if c.model == model]
    lines = [
        LookLine(
            name=view.short[c.label],
            about="dense control: the same training without compression"
            if c.role == "control"
            else "",
            cells=_cells(view, c.label, names),
            is_control=c.role == "control",
            is_chosen=c.label == view.chosen,
        )
        for c in candidates
        if c.role != "baseline" and view.rows.find(c.label, names[0], CLEAN) is not None
    ]
    baseline = next((c.label for c in candidates if c.role == "baseline"), "")
    lines += _control_lines(view, baseline, names)
    if not lines:
        return None
    titles = [wording.metric_name(name) for name in metrics]
    return LookTable(
        model=model if len(view.models) > 1 else "",
        about=_about(view, [*(c.label for c in candidates)], names[0], method),
        columns=(titles[0], *(["Pairs of boxes"] if view.detects else []), *_PARTS, *titles[1:]),
        lines=tuple(lines),
        saying=_saying(lines),
    )


def _cells(view: View, label: str, names: Sequence[str]) -> tuple[Cell, ...]:
    parts = view.rows.slices(label, names[0], CLEAN)
    values = [view.value(label, Column(name, CLEAN)) for name in names]
    pairs = _pairs(view, view.rows.find(label, names[0], CLEAN))
    return (values[0], *pairs, *(_part(parts.get(part)) for part in PARTS), *values[1:])


def _pairs(view: View, row: Row | None) -> tuple[Cell, ...]:
    """Return how many pairs of boxes a number is about; nothing where it is about images."""
    if not view.detects:
        return ()
    count = None if row is None else row["count"]
    return (ABSENT if count is None else Cell(str(count), value=count),)


def _part(row: Row | None) -> Cell:
    return ABSENT if row is None else cell_of(row)


def _control_lines(view: View, baseline: str, names: Sequence[str]) -> Iterator[LookLine]:
    rows = {name: view.rows.slices(baseline, name, CLEAN) for name in names}
    for part, (title, about) in _CONTROLS.items():
        if part not in rows[names[0]]:
            continue
        values = [_part(rows[name].get(part)) for name in names]
        pairs = _pairs(view, rows[names[0]][part])
        cells = (values[0], *pairs, ABSENT, ABSENT, *values[1:])
        yield LookLine(title, about, cells, is_control=True)


def _about(view: View, labels: Sequence[str], metric: str, method: str) -> str:
    """Return how the maps were made, from what stands beside their numbers."""
    for label in labels:
        cell = view.value(label, Column(metric, CLEAN))
        told = wording.without_interval(cell.note).split("; ")
        told = [text for text in told if not text.startswith("mean on Fisher")]
        told = [text for text in told if text and " images undefined" not in text]
        if told and cell.value is not None:
            return f"{'; '.join(told)}."
    return method.removeprefix(_METHOD).removesuffix("]")


def _saying(lines: Sequence[LookLine]) -> str:
    """Return the yardsticks in one sentence, the highest first."""
    known = [
        (line.cells[0].value, f"{line.name} {line.cells[0].text}")
        for line in lines
        if line.is_control and line.cells[0].value is not None
    ]
    if not known:
        return ""
    known.sort(key=lambda item: -(item[0] or 0.0))
    told = "; ".join(text for _, text in known)
    if len(known) == 1:
        return f"The only yardstick here: {told}."
    return (
        f"Yardsticks for these correlations: {told}. A candidate at the level of the dense control "
        "looks where equal training alone looks; at the level of an independent twin it agrees no "
        "more than another network does."
    )


def strips(view: View, exhibits: Sequence[Json]) -> list[Strip]:
    """Return the images with the lowest agreement, as many as the page has room for."""
    room = PICTURES
    found = []
    for item in exhibits:
        pictures = []
        for image in item["images"]:
            parts = [image[name] for name in ("image", "baseline_map", "candidate_map")]
            room -= sum(map(len, parts))
            if room < 0:
                break
            boxes = (_outline(image.get("baseline_box")), _outline(image.get("candidate_box")))
            links = [_link(part) for part in parts]
            pictures.append(Picture(_caption(image), links[0], links[1], links[2], boxes))
        if pictures:
            name = view.short.get(item["candidate"], item["candidate"])
            about = _about_boxes(item) if view.detects else _strip_about(item)
            found.append(Strip(name, about, tuple(pictures)))
    return found


def _caption(image: Json) -> str:
    text = f"#{image['index']}, {image['class']}"
    if image["explained"] != image["class"]:
        text += f", explained: {image['explained']}"
    return f"{text}; r = {wording.number(image['hcc'], 2)}"


def _link(picture: str) -> str:
    return f"data:image/png;base64,{picture}"


def _outline(box: Sequence[float] | None) -> str:
    """Return a box, given as parts of width and height, as a path in percent."""
    if box is None:
        return ""
    left, top, right, bottom = (round(100 * value, 1) for value in box)
    return f"M{left:g} {top:g}H{right:g}V{bottom:g}H{left:g}Z"


def _about_boxes(item: Json) -> str:
    text = f"lowest of {item['count'] - item['undefined']} pairs of boxes"
    if item["undefined"]:
        text += f", {item['undefined']} without a counterpart or undefined"
    return text


def _strip_about(item: Json) -> str:
    text = f"lowest of {item['count'] - item['undefined']} images"
    if item["undefined"]:
        text += f", {item['undefined']} undefined"
    return text
