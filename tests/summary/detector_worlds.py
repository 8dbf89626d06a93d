"""Small worlds of detections in which every derived number can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.records import CLEAN, Candidate, Cell, Condition
from shrinkproof.summary import Settings, Summary
from shrinkproof.summary.detection import summarize_detection

FOG = (Condition("fog", 1), Condition("fog", 2))
SETTINGS = Settings(
    "artifact",
    (CLEAN, *FOG),
    ("detection.ap50", "detection.d_ece"),
    200,
    0,
    classes=("cat", "dog"),
    task="detection",
)
COUNT = 40
SIZE = (100, 120)

Rows = Mapping[tuple[str, Condition], DetectionPredictions]
Box = tuple[float, str | int]
"""Score of a detected box, and what it is, see `detections`."""


def truth(count: int = COUNT) -> Objects:
    """One object in each image, of the classes in turn, at (10, 10, 50, 50)."""
    return Objects(
        boxes=np.tile([[10.0, 10.0, 50.0, 50.0]], (count, 1)),
        label=np.arange(count) % 2,
        offsets=np.arange(count + 1),
        crowd=np.zeros(count, dtype=bool),
        area=np.full(count, 1600.0),
        sizes=np.tile([SIZE], (count, 1)),
    )


def detections(
    of: Callable[[int], Sequence[Box]], count: int = COUNT, **changes: Any
) -> DetectionPredictions:
    """Detect in image i the boxes ``of(i)``, best first.

    A box is ``right`` on the object, ``wrong`` on background, or ``other`` on the object with the
    other class.
    """
    boxes, score, label, offsets = [], [], [], [0]
    for image in range(count):
        for sure, kind in of(image):
            place = [70, 70, 90, 90] if kind == "wrong" else [10, 10, 50, 50]
            boxes.append(place)
            score.append(sure)
            label.append((image + (kind == "other")) % 2)
        offsets.append(len(score))
    found = DetectionPredictions(
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        score=np.array(score, dtype=np.float32),
        label=np.array(label, dtype=np.int64),
        offsets=np.array(offsets),
        objects=truth(count),
        index=np.arange(count) + 100,
        num_classes=2,
    )
    return replace(found, **changes)


def finding(share: int, *, false: int = 0) -> DetectionPredictions:
    """Find the objects of the first images, sure; a wrong box in the first others, less sure."""

    def of(image: int) -> list[Box]:
        right: list[Box] = [(0.9 - image / 1000, "right")] if image < share else []
        return [*right, *([(0.6 - image / 1000, "wrong")] if image < false else [])]

    return detections(of)


def scattered(seed: int, count: int = COUNT) -> DetectionPredictions:
    """Return right, wrong and misnamed boxes whose scores tell something."""
    rng = np.random.default_rng(seed)

    def of(_: int) -> list[Box]:
        scores = np.sort(rng.uniform(0.05, 1.0, 3))[::-1]
        kinds = [
            "right" if rng.random() < score else rng.choice(["wrong", "other"]) for score in scores
        ]
        return list(zip(scores.tolist(), kinds, strict=True))

    return detections(of, count)


def candidates(recipes: Sequence[str], model: str = "net") -> list[Candidate]:
    """A baseline and recipes; the control of ``a+c`` is the dense network ``c``."""
    first = Candidate(f"{model}/baseline", model, "baseline", role="baseline")
    found = [first]
    for recipe in recipes:
        name, _, control = recipe.partition("+")
        found.append(
            Candidate(
                f"{model}/{name}",
                model,
                name,
                role="control" if name == "control" else "recipe",
                control=f"{model}/{control}" if control else first.key,
            )
        )
    return found


def summary_of(
    people: Sequence[Candidate],
    rows: Rows | Mapping[str, Rows],
    settings: Settings = SETTINGS,
    split: str = "report",
    macs: Mapping[str, float] | None = None,
) -> Summary:
    """Derive everything from detections, which are found by the candidate's key.

    Args:
        people: the candidates.
        rows: candidate and condition -> detections; or that for each split.
        settings: what the numbers depend on.
        split: the split where only one is given.
        macs: multiply-accumulates of the candidates, by key.
    """
    of_splits: Any = rows if all(isinstance(key, str) for key in rows) else {split: rows}
    cells, stored = [], {}
    for name, found in of_splits.items():
        for (key, condition), item in found.items():
            own, _, form = key.partition("!")
            cell = Cell(
                f"{key}@{condition}@{name}", own, "scores", form or "artifact", name, condition
            )
            cells.append(cell)
            stored[cell.key] = item
    sizes = {
        Cell(f"{key}@size", key, "size", "artifact"): cost for key, cost in (macs or {}).items()
    }
    costs = {cell.key: {"cost.macs": cost} for cell, cost in sizes.items()}
    return summarize_detection(
        people, [*cells, *sizes], stored.get, settings, lambda key: costs.get(key, {})
    )


def with_settings(**changes: Any) -> Settings:
    """Return the settings of these worlds with some changed."""
    return replace(SETTINGS, **changes)
