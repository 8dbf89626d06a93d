"""Finished runs made by hand: who is right about which image is said, so all numbers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Failure, Json
from shrinkproof.results import Results
from shrinkproof.store import Shard, Store

TUNE: Json = {"name": "finetune", "version": 1, "fields": {"epochs": 40}}
FOG = Condition("fog", 5)
TARGET = np.arange(400) % 2


def prune(ratio: float) -> tuple[Json, ...]:
    """Steps of unstructured pruning with recovery."""
    return ({"name": "prune.weights", "version": 1, "fields": {"ratio": ratio}}, TUNE)


def channels(ratio: float, criterion: str = "l1") -> tuple[Json, ...]:
    """Steps of channel pruning with recovery."""
    fields = {"ratio": ratio, "criterion": criterion}
    return ({"name": "prune.channels", "version": 1, "fields": fields}, TUNE)


def step(name: str, **fields: Any) -> Json:
    """One step."""
    return {"name": name, "version": 1, "fields": fields}


@dataclass(frozen=True)
class Made:
    """One candidate and how many of 400 images it gets right, by form and condition.

    Attributes:
        recipe: its name.
        right: how many images are right on clean images; the first ones.
        steps: of its recipe.
        repeat: which training.
        role: ``baseline``, ``control`` or ``recipe``.
        control: recipe of its control; empty for the baseline.
        fog: how many are right in fog.
        confidence: of every answer.
        twin: how many its twin gets right; None where it has no predictions.
        costs: metric -> value.
        fails: it could not be made.
    """

    recipe: str
    right: int = 0
    steps: tuple[Json, ...] = ()
    repeat: int = 0
    role: str = "recipe"
    control: str = ""
    fog: int | None = None
    confidence: float = 0.9
    twin: int | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    fails: bool = False


def answers(right: int, confidence: float = 0.9) -> ClassificationPredictions:
    """Predictions of 400 images of two classes, the first ``right`` of them right."""
    is_right_N = np.arange(len(TARGET)) < right
    predicted_N = np.where(is_right_N, TARGET, 1 - TARGET)
    prob_NC = np.full((len(TARGET), 2), 1 - confidence)
    prob_NC[np.arange(len(TARGET)), predicted_N] = confidence
    logits_NC: NDArray[np.float32] = np.log(prob_NC).astype(np.float32)
    return ClassificationPredictions(logits_NC, TARGET.astype(np.int64), np.arange(len(TARGET)))


def run_of(
    path: Path,
    networks: Mapping[str, Sequence[Made]],
    *,
    uses: Mapping[str, str] | None = None,
    source: str = "cifar10:test",
    scores: Sequence[str] = ("accuracy.top1", "calibration.ece[bins=10]"),
    **spec: Any,
) -> Results:
    """Write a finished run and return it.

    Args:
        path: its directory.
        networks: model -> its candidates, the baseline first.
        uses: model -> reference; ``cifar:vgg16_bn`` where it is absent.
        source: of the printed images.
        scores: what is measured.
        spec: further keys of the study file.
    """
    store = Store.create(path)
    has_fog = any(made.fog is not None for members in networks.values() for made in members)
    content = {
        "study": path.name,
        "models": {m: {"use": (uses or {}).get(m, "cifar:vgg16_bn")} for m in networks},
        "data": {"report": "cifar10:test"},
        "measure": {"scores": list(scores), "intervals": {"replicates": 200}},
        **({"conditions": {"fog": [5]}} if has_fog else {}),
        **spec,
    }
    store.write_text(path / "study.yaml", yaml.safe_dump(content))
    split = {"source": source, "count": len(TARGET), "fingerprint": "f", "classes": []}
    data = {"splits": {"report": split}, "notes": [], "contamination": {}, "origins": {}}
    store.write_json("data.json", data)
    candidates, cells = [], []
    for model, members in networks.items():
        for made in members:
            candidate = _candidate(model, made, members)
            candidates.append(candidate)
            mine = _cells(candidate, made)
            cells += [cell for cell, _ in mine]
            if made.fails:
                failure = Failure("CompressionError", "it fell apart\nand more")
                store.write_failure(candidate.key, failure, label=candidate.label)
                continue
            for cell, found in mine:
                _write(store, cell, found, scores, made)
    store.write_plan(candidates, cells)
    return Results.load(path)


def _key(model: str, recipe: str, repeat: int) -> str:
    return f"{model}-{recipe}-{repeat}"


def _candidate(model: str, made: Made, members: Sequence[Made]) -> Candidate:
    repeats = {(m.recipe, m.repeat) for m in members}
    repeat = made.repeat if (made.control, made.repeat) in repeats else 0
    control = "" if made.role != "recipe" else _key(model, made.control or "baseline", repeat)
    return Candidate(
        _key(model, made.recipe, made.repeat),
        model,
        made.recipe,
        made.repeat,
        made.role,  # type: ignore[arg-type]
        control,
        made.steps,
    )


def _cells(candidate: Candidate, made: Made) -> list[tuple[Cell, ClassificationPredictions | None]]:
    found: list[tuple[Cell, ClassificationPredictions | None]] = []
    for condition, right, form in (
        (CLEAN, made.right, "artifact"),
        (FOG, made.fog, "artifact"),
        (CLEAN, made.twin, "twin"),
    ):
        if right is not None:
            key = f"{candidate.key}-{condition}-{form}".replace(":", "-")
            cell = Cell(key, candidate.key, "scores", form, "report", condition)  # type: ignore[arg-type]
            found.append((cell, answers(right, made.confidence)))
    if made.costs:
        found.append((Cell(f"{candidate.key}-size", candidate.key, "size", "artifact"), None))
    return found


def _write(
    store: Store,
    cell: Cell,
    found: ClassificationPredictions | None,
    scores: Sequence[str],
    made: Made,
) -> None:
    from shrinkproof.metrics.spelling import metric_of

    if found is None:
        rows = [
            Measurement(metric=m, value=v, unit="bytes", better="lower")
            for m, v in made.costs.items()
        ]
    else:
        store.write_predictions(cell.key, found)
        rows = [
            Measurement(
                metric=name, value=float(metric_of(name)(found)), unit="fraction", better="none"
            )
            for name in scores
        ]
    store.write_cell(Shard(cell, tuple(rows), "", {}))


def baseline(right: int = 320, **more: Any) -> Made:
    """The uncompressed network."""
    return Made("baseline", right, role="baseline", **more)


def trainings(
    recipe: str, rights: Sequence[int], steps: tuple[Json, ...], **more: Any
) -> list[Made]:
    """One candidate for each training."""
    return [Made(recipe, right, steps, repeat, **more) for repeat, right in enumerate(rights)]
