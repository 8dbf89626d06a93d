"""What tables and page take: those of a small part of the study, with invented predictions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from shrinkproof.records import Candidate, Cell, Condition
from shrinkproof.results import Results
from shrinkproof.store import Shard, Store
from shrinkproof.study.estimate.desk import Desk, bytes_of
from shrinkproof.study.estimate.invented import invented
from shrinkproof.study.estimate.rates import Ended
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import scores_of

_SIZES: Final = (1, 3)
"""Corrupted conditions of the two parts of the study that are compared."""

_MOST: Final = 12
"""Candidates of such a part."""

_IMAGES: Final = 10_000
"""Images of a split, at most; what they cost is not scaled to the rest."""

_LEFT_OUT: Final = ("select", "certify")


def end(desk: Desk, candidates: Sequence[Candidate], splits: Sequence[str]) -> Ended | None:
    """Return what tables and page take; None where the study has too little for them.

    Args:
        desk: of this process.
        candidates: all of the study.
        splits: those that are measured.
    """
    conditions = desk.place.inputs.spec.conditions_list()
    corrupted = [c for c in conditions if not c.is_clean]
    some = candidates[:_MOST]
    points: list[tuple[int, float, float]] = []
    for size in _SIZES if len(corrupted) >= _SIZES[-1] else (len(corrupted),):
        shown = [conditions[0], *_spread(corrupted, size)]
        folder = desk.store.path / f"end-{size}"
        cells = _fill(desk, folder, some, splits, shown)
        if not points:
            _pages(folder, desk)  # the first page imports what draws it
        points.append((cells, *_pages(folder, desk)))
        shutil.rmtree(folder)
    return _line(points)


def _spread(conditions: Sequence[Condition], count: int) -> list[Condition]:
    """Return so many conditions of different corruptions where there are."""
    names = {c.corruption: c for c in conditions}
    rest = [c for c in conditions if c not in names.values()]
    return [*names.values(), *rest][:count]


def _line(points: Sequence[tuple[int, float, float]]) -> Ended:
    """Return the line through one or two points: cells, seconds, bytes."""
    (few, seconds, size), *more = points
    if not more:
        return Ended(0.0, seconds / max(1, few), size / max(1, few))
    many, longer, larger = more[0]
    slope = max(0.0, (longer - seconds) / (many - few))
    return Ended(max(0.0, seconds - few * slope), slope, max(0.0, (larger - size) / (many - few)))


def _fill(
    desk: Desk,
    folder: Path,
    candidates: Sequence[Candidate],
    splits: Sequence[str],
    conditions: Sequence[Condition],
) -> int:
    """Write a run with invented predictions; return how many cells it has."""
    store = Store.create(folder)
    inputs = desk.place.inputs
    text = _shortened(inputs.text, conditions)
    store.write_text(folder / "study.yaml", text)
    store.write_json("inputs.json", Inputs(text, inputs.folder, inputs.roots).as_json())
    scores = scores_of(inputs)
    cells: list[Cell] = []
    about: dict[str, Any] = {"splits": {}, "notes": [], "contamination": {}, "origins": {}}
    for split in splits:
        images = desk.place.images([split])[split]
        images = images.take(np.arange(min(_IMAGES, len(images))))
        about["splits"][split] = {
            "source": images.source,
            "count": len(images),
            "fingerprint": split,
            "classes": list(images.classes),
            "batch": 1,
        }
        predictions = invented(images)
        weights = scores.weights(len(images), images.groups)
        numbers = tuple(scores.score(predictions, weights))
        for candidate in candidates:
            for condition in conditions:
                key = f"{candidate.key}-{split}-{condition}".replace(":", "-")
                cell = Cell(key, candidate.key, "scores", "artifact", split, condition)
                cells.append(cell)
                store.write_predictions(key, predictions)
                store.write_cells([Shard(cell, numbers, "", scores.versions())])
    store.write_json("data.json", about)
    store.write_plan(candidates, cells)
    return len(cells)


def _shortened(text: str, conditions: Sequence[Condition]) -> str:
    """Return a study file with fewer conditions and nothing that depends on the others."""
    value = yaml.safe_load(text)
    for name in _LEFT_OUT:
        value.pop(name, None)
    value["conditions"] = {}
    for condition in conditions:
        if not condition.is_clean:
            value["conditions"].setdefault(condition.corruption, []).append(condition.severity)
    measure = value.get("measure") or {}
    measure.pop("saliency", None)
    measure.pop("robustness", None)
    value["measure"] = measure
    return str(yaml.safe_dump(value, sort_keys=False))


def _pages(folder: Path, desk: Desk) -> tuple[float, float]:
    """Return the seconds of tables and page, and how many bytes the tables have."""
    before = bytes_of(folder)
    start = desk.clock()
    results = Results.load(folder)
    _ = results.summary
    results.report()
    seconds = desk.clock() - start
    after = bytes_of(folder)
    for name in ("summary.jsonl", "summary.npz", "report.html"):
        (folder / name).unlink(missing_ok=True)
    return seconds, after - before
