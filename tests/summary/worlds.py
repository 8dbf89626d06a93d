"""Small worlds of predictions in which every derived number can be computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Json
from shrinkproof.summary import Settings, Summary, summarize

FOG = (Condition("fog", 1), Condition("fog", 2))
SETTINGS = Settings("artifact", (CLEAN, *FOG), ("accuracy.top1", "calibration.ece"), 200, 0)

Rows = Mapping[tuple[str, Condition], ClassificationPredictions]


def predictions(
    predicted: Any, target: Any, num_classes: int = 3, confidence: float = 0.9
) -> ClassificationPredictions:
    """Predict the given classes, all equally sure."""
    predicted, target = np.asarray(predicted), np.asarray(target, dtype=np.int64)
    prob = np.full((len(target), num_classes), (1 - confidence) / (num_classes - 1))
    prob[np.arange(len(target)), predicted] = confidence
    return ClassificationPredictions(
        np.log(prob).astype(np.float32), target, np.arange(len(target))
    )


def candidates(recipes: Sequence[str], model: str = "net") -> list[Candidate]:
    """A baseline and recipes; ``recipe#1`` is a repeat of ``recipe``."""
    first = Candidate(f"{model}/baseline", model, "baseline", role="baseline")
    found = [first]
    for label in recipes:
        recipe, _, repeat = label.partition("#")
        key = f"{model}/{label}"
        found.append(Candidate(key, model, recipe, int(repeat or 0), control=first.key))
    return found


def summary_of(
    people: Sequence[Candidate],
    rows: Rows,
    settings: Settings = SETTINGS,
    split: str = "report",
) -> Summary:
    """Derive everything from predictions, which are found by the candidate's key."""
    cells = [
        Cell(f"{key}@{condition}", key, "scores", "artifact", split, condition)
        for key, condition in rows
    ]
    stored = {f"{key}@{condition}": found for (key, condition), found in rows.items()}
    return summarize(people, cells, stored.get, settings)


def number(
    summary: Summary, candidate: str, metric: str, condition: str = "clean", part: str = ""
) -> Measurement | None:
    """Return the one number of a candidate, or None where there is none."""
    hits = [
        row.measurement
        for row in summary.rows
        if (row.candidate, row.measurement.metric, row.condition, row.measurement.slice)
        == (candidate, metric, condition, part)
    ]
    assert len(hits) <= 1
    return hits[0] if hits else None


def exhibits(summary: Summary, kind: str) -> list[Json]:
    """Return the exhibits of a kind."""
    return [item.value for item in summary.exhibits if item.kind == kind]


def with_settings(**changes: Any) -> Settings:
    """Return the settings of these worlds with some changed."""
    return replace(SETTINGS, **changes)
