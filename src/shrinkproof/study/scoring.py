"""Metrics from stored predictions: no model, no images, any process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shrinkproof.engines.inline import Inline
from shrinkproof.environment import environment_key
from shrinkproof.errors import UsageError
from shrinkproof.evaluators.scores import Scores
from shrinkproof.metrics.spelling import metric_of, spelled
from shrinkproof.predictions import half
from shrinkproof.protocols import Engine, Measurement
from shrinkproof.records import Cell, Failure
from shrinkproof.results.reading import Results
from shrinkproof.store import Part, Store
from shrinkproof.study.explaining import Comparing, compare, comparisons
from shrinkproof.study.progress import Progress, Silence
from shrinkproof.study.work.measuring import PassResult

ADDED: Final = "scores.json"
"""Names of the metrics that were added to a run after it began."""

_NOTHING: Final = (
    "must be computed from stored predictions, got none; these numbers were measured elsewhere"
)


_NAMED: Final = 3
"""Cells that a warning names."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Compute the metrics of one cell.

    Attributes:
        run: the run directory.
        scores: metrics, replicates and seed.
        cell: which cell.
    """

    run: str
    scores: Scores
    cell: Cell


@dataclass(frozen=True, slots=True)
class Assembling:
    """Put the parts of one cell together and compute its metrics.

    Attributes:
        run: the run directory.
        scores: metrics, replicates and seed.
        cell: which cell.
        parts: all parts of its images, in order.
    """

    run: str
    scores: Scores
    cell: Cell
    parts: tuple[Part, ...]


def score(work: Scoring) -> tuple[Measurement, ...] | None:
    """Return the metrics of a cell, or None where its predictions are missing."""
    predictions = Store(Path(work.run)).read_predictions(work.cell.key)
    if predictions is None:
        return None
    weights = work.scores.weights(len(predictions), predictions.groups)
    return tuple(work.scores.score(predictions, weights))


def assemble(work: Assembling) -> PassResult | None:
    """Store the predictions of a cell from its parts and return its metrics.

    Returns:
        None where a part is missing: another launcher has put the cell together.
    """
    store, key = Store(Path(work.run)), work.cell.key
    made = store.join_parts(key, work.parts)
    numbers = None if made is None else score(Scoring(work.run, work.scores, work.cell))
    if made is None or numbers is None:
        return None
    notes = dict.fromkeys(note for each in made for note in each["notes"])
    if store.is_rounded(key):
        notes[half.NOTE] = None
    machines = {environment_key(each["machine"]): each["machine"] for each in made}
    if len(machines) > 1:
        notes[f"its parts were measured on {len(machines)} machines: {', '.join(machines)}"] = None
    return PassResult({key: numbers}, tuple(notes), made[0]["machine"])


def finish(work: Scoring | Assembling) -> PassResult | None:
    """Return the metrics of a cell, which may have to be put together first."""
    if isinstance(work, Assembling):
        return assemble(work)
    numbers = score(work)
    return None if numbers is None else PassResult({work.cell.key: numbers})


def _numbers(work: Scoring | Comparing) -> tuple[Measurement, ...] | None:
    return score(work) if isinstance(work, Scoring) else compare(work)


def with_added(scores: Scores, store: Store) -> Scores:
    """Return the evaluator with the metrics that were added to the run."""
    added: list[str] = store.read_json(ADDED) or []
    return replace(scores, metrics=tuple(dict.fromkeys([*scores.metrics, *added])))


def rescore(
    path: Path | str,
    *,
    add: Sequence[str] = (),
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Results:
    """Recompute every metric of a run from its predictions and heat maps; return the results.

    No model and no image is needed. Cells of which nothing is stored keep their numbers.

    Args:
        path: the run directory.
        add: names of metrics that the run shall have from now on.
        engine: where the work happens; this process by default.
        progress: who is told how far it is.

    Raises:
        StoreError: there is no run in that directory.
        UsageError: a name is wrong; nothing is changed then.
    """
    results = Results.load(path)
    store, spec = results.store, results.spec
    names = tuple(dict.fromkeys([*results.metrics, *(spelled(metric_of(text)) for text in add)]))
    scores = Scores(metrics=names, replicates=spec.measure.intervals.replicates, seed=spec.seed)
    told, chosen = progress or Silence(), engine or Inline()
    if not _has_predictions(results):
        if add:
            raise UsageError(f"score: new metrics {_NOTHING}")
        told.warn(f"nothing to score: metrics {_NOTHING}")
        return results
    store.write_json(ADDED, [name for name in names if name not in spec.measure.scores])
    shards = results.shards
    cells = [shard.cell for shard in shards.values()]
    scorings = [Scoring(str(store.path), scores, c) for c in cells if c.evaluator == Scores.name]
    pairs = comparisons(store.path, spec, results.candidates, cells)
    versions = dict.fromkeys((item.cell.key for item in scorings), scores.versions())
    versions |= {pair.cell.key: pair.agreement.versions() for pair in pairs}
    items: list[Scoring | Comparing] = [*scorings, *pairs]
    lacking: list[str] = []
    start = time.perf_counter()
    told.begin("score", len(items))
    for item, outcome in chosen.map(_numbers, items):
        cell = item.cell
        label = f"{results.by_key[cell.candidate].label} {cell.condition}"
        if isinstance(outcome, Failure):
            store.write_failure(cell.key, outcome, label=label)
            told.warn(f"{label}: {outcome.message}")
        elif outcome is None:
            lacking.append(label)
        else:
            shard = shards[cell.key]
            store.write_cell(replace(shard, measurements=outcome, versions=versions[cell.key]))
        told.advance(label)
    told.end("score", time.perf_counter() - start)
    if lacking:
        told.warn(
            f"{len(lacking)} cell(s) keep their numbers, as their predictions or heat maps are "
            f"missing: {', '.join(lacking[:_NAMED])}{', ...' * (len(lacking) > _NAMED)}"
        )
    found = Results.load(path)
    _ = found.summary
    return found


def _has_predictions(results: Results) -> bool:
    """Return whether any cell has predictions; results that were measured elsewhere have none."""
    shards = [s for s in results.shards.values() if s.cell.evaluator == Scores.name]
    return not shards or any(results.store.has_predictions(s.cell.key) for s in shards)
