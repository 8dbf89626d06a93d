"""Predictions made elsewhere become ordinary cells of a run: metrics, flips, front, report."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.artifacts.sizes import file_bytes, zip_bytes
from shrinkproof.atomic import replace_file
from shrinkproof.errors import DataError, UsageError
from shrinkproof.evaluators.scores import Scores
from shrinkproof.foreign.files import PredictionFile, read_predictions_file
from shrinkproof.foreign.kit import read_hashes
from shrinkproof.foreign.matching import matched
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.predictions import ClassificationPredictions, half
from shrinkproof.protocols import Measurement
from shrinkproof.records import Candidate, Cell, Condition, Json, key_of, label_of
from shrinkproof.results import Results
from shrinkproof.results.caveats import AGREEMENT_FLOOR
from shrinkproof.results.imported import IMPORTED
from shrinkproof.spec.recipes import NAME, NAME_RULE
from shrinkproof.store import Shard, Store

_LATENCY: Final = "latency.npy"
"""Beside the logits of a cell: seconds of each inference."""

_ONE_SESSION: Final = "no interval: it needs 5 processes, and these times are of one session"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import of predictions has stored.

    Attributes:
        candidate: whose predictions they count as.
        of: label of the candidate it was made from.
        conditions: what was stored, and on which share of the images the target predicts the class
            that ``of`` predicts here; None where that was not measured.
        results: the run with them.
    """

    candidate: Candidate
    of: str
    conditions: Mapping[Condition, float | None]
    results: Results


@dataclass(frozen=True, slots=True, eq=False)
class _Verified:
    """Predictions that fit the run, not stored yet."""

    file: PredictionFile
    cell: Cell
    beside: str
    predictions: ClassificationPredictions
    seconds: NDArray[np.float64] | None
    notes: tuple[str, ...]
    agreement: float | None


def import_predictions(
    files: Sequence[Path],
    run: Path,
    *,
    candidate: str,
    of: str = "",
    condition: str = "",
    split: str = "",
    device: str = "",
    network: Path | None = None,
    probabilities: bool = False,
) -> Imported:
    """Store predictions that a target made for the images of a run, and return them.

    Ids and hashes are compared with those of the run; where anything does not fit, nothing is
    stored. The same condition imported again replaces what was there. A later run of the study
    keeps them as long as it measures the same images.

    Args:
        files: one .npz or .parquet per condition, as the runner of the kit writes them.
        run: the run directory that the kit was made from.
        candidate: name of the new candidate, which becomes a recipe of the model of ``of``.
        of: label of the candidate that was compiled for the target, ``MODEL/RECIPE``; may be
            absent where the candidate is known already, or where the run has one model, whose
            baseline it is then.
        condition: of the images; may be absent where the files say it.
        split: of the images; by default what the file says, else the one that is printed.
        device: what the target is, in words.
        network: the file that the target executes, for its size; by default the size is that of
            the exported file of ``of``.
        probabilities: the files hold the softmax instead of logits.

    Raises:
        UsageError: a name is wrong.
        DataError: a file cannot be read, or does not fit the run.
    """
    results = Results.load(run)
    source, item = _who(results, candidate, of, device)
    verified = [
        _verify(results, item, source, file, condition, split, probabilities=probabilities)
        for file in map(read_predictions_file, files)
    ]
    _check_distinct(verified, condition)
    sizes = _sizes(results, source, network)
    scores = Scores(
        metrics=results.metrics,
        replicates=results.spec.measure.intervals.replicates,
        seed=results.spec.seed,
    )
    measured = [_score(scores, found) for found in verified]
    mine = Candidate.from_json(item["candidate"])
    store = results.store
    environment = key_of("device", {"device": item["device"]})
    store.write_environment(environment, {"device": item["device"] or "unknown target"})
    if not store.has_candidate(mine.key):
        store.write_candidate(mine, lambda _: {"of": source.label, "device": item["device"]})
    cells = []
    for found, numbers in zip(verified, measured, strict=True):
        notes = (*_origin(mine, source, item, found), *found.notes)
        store.write_predictions(found.cell.key, found.predictions)
        _keep_seconds(store, found)
        store.write_cell(Shard(found.cell, numbers, environment, scores.versions(), notes))
        cells.append({"cell": found.cell.as_json(), "beside": found.beside})
    if sizes:
        cell = Cell(key_of("foreign-size", mine.key), mine.key, "size", "artifact")
        store.write_cell(Shard(cell, sizes, environment, {"size": 1}))
        cells.append({"cell": cell.as_json(), "beside": ""})
    _enter(store, item, cells)
    _write_latency(store, mine, environment, item)
    shares = {found.cell.condition: found.agreement for found in verified}
    return Imported(mine, source.label, shares, Results.load(run))


# who


def _who(results: Results, name: str, of: str, device: str) -> tuple[Candidate, Json]:
    """Return the candidate that was compiled for the target, and the entry of the new one.

    Raises:
        UsageError: a name is wrong, taken or missing.
    """
    if results.form != "artifact":
        raise UsageError(
            "import predictions: the run must measure exported files, got PyTorch twins "
            "(measure.form: twin); a target executes an exported file, so measure those"
        )
    kept: Json = results.store.read_json(IMPORTED) or {"candidates": [], "cells": []}
    old = {item["candidate"]["key"] for item in kept["candidates"]}
    own = {c.label: c for c in results.candidates if c.key not in old}
    bare = name.rpartition("/")[2]
    known = [i for i in kept["candidates"] if name in (_label(i), i["candidate"]["recipe"])]
    source = _source(own, of or (known[0]["label"] if len(known) == 1 else ""), bare)
    if "/" in name and name != label_of(source.model, bare, 0):
        raise UsageError(
            f"--candidate: must be a name, or {source.model}/NAME as --of says, got {name!r}"
        )
    if not NAME.fullmatch(bare) or bare == "baseline" or bare.startswith("control."):
        raise UsageError(f"--candidate: {NAME_RULE} and is not reserved, got {bare!r}")
    label = label_of(source.model, bare, 0)
    if label in own:
        raise UsageError(
            f"--candidate: must be a new name, got {label}, which the study measures itself; "
            f"write for example --candidate {bare}-npu --of {label}"
        )
    same = next((i for i in kept["candidates"] if _label(i) == label), None)
    if same is not None:
        if same["of"] != source.key and same["label"] != source.label:
            raise UsageError(
                f"--of: {label} was made from {same['label']}, got {source.label}; choose another "
                "name for it"
            )
        return source, {**same, "of": source.key, "device": device or same["device"]}
    mine = Candidate(
        key=key_of("foreign-candidate", {"of": source.key, "name": bare}),
        model=source.model,
        recipe=bare,
        control=source.control or source.key,
        steps=source.steps,
    )
    item = {
        "candidate": mine.as_json(),
        "of": source.key,
        "label": source.label,
        "device": device,
    }
    return source, item


def _label(item: Json) -> str:
    return Candidate.from_json(item["candidate"]).label


def _source(own: dict[str, Candidate], of: str, name: str) -> Candidate:
    if of:
        if of not in own:
            raise UsageError(f"--of: must be one of {', '.join(own)}, got {of!r}")
        return own[of]
    baselines = [c for c in own.values() if c.role == "baseline"]
    if len(baselines) != 1:
        raise UsageError(
            f"--of: must say from which candidate {name} was made, because the run has "
            f"{len(baselines)} models; one of {', '.join(own)}"
        )
    return baselines[0]


# what


def _verify(
    results: Results,
    item: Json,
    source: Candidate,
    file: PredictionFile,
    condition: str,
    split: str,
    *,
    probabilities: bool,
) -> _Verified:
    for option, said, written in (
        ("--condition", condition, file.condition),
        ("--split", split, file.split),
    ):
        if said and written and said != written:
            raise DataError(f"{file.path}: is about {written}, got {option} {said}")
    place = _place(file, condition or file.condition)
    name = split or file.split or results.printing
    cells = {
        cell.candidate: cell
        for cell in results.cells
        if (cell.evaluator, cell.form, cell.split, cell.condition)
        == ("scores", results.form, name, place)
    }
    beside = cells.get(source.key)
    if beside is None:
        there = dict.fromkeys(str(c.condition) for c in results.cells if c.split)
        raise UsageError(
            f"{file.path}: must be about what the run measures, got {place} on {name}; it measures "
            f"{', '.join(there)} on {' and '.join(results.measuring)}"
        )
    reads = (results.store.read_logits(cell.key) for cell in (beside, *cells.values()))
    own = next((predictions for predictions in reads if predictions is not None), None)
    if own is None:
        raise DataError(
            f"{file.path}: {place} on {name} must have been measured by the run, got no "
            "predictions; run the study first"
        )
    hashes = read_hashes(results, name, place)
    predictions, order, notes = matched(file, own, hashes, probabilities=probabilities)
    same = results.store.read_logits(beside.key)
    agreement = None if same is None else _agreement(predictions, same)
    digest = hashlib.sha256(predictions.logits.tobytes()).hexdigest()
    key = item["candidate"]["key"]
    parts = {"beside": beside.key, "candidate": key, "logits": digest}
    cell = Cell(key_of("foreign-scores", parts), key, "scores", beside.form, name, place)
    seconds = None if file.seconds is None else file.seconds[order]
    if half.is_large(*predictions.logits.shape):
        notes = (*notes, half.NOTE)
    predictions = half.rounded(predictions, len(predictions))
    return _Verified(file, cell, beside.key, predictions, seconds, notes, agreement)


def _agreement(here: ClassificationPredictions, there: ClassificationPredictions) -> float:
    return float(np.mean(here.prediction() == there.prediction()))


def _place(file: PredictionFile, text: str) -> Condition:
    if not text:
        raise UsageError(
            f"{file.path}: must say its condition, got none; give --condition, for example fog:3"
        )
    try:
        return Condition.parse(text)
    except ValueError as error:
        raise UsageError(f"{file.path}: {error}") from error


def _check_distinct(verified: Sequence[_Verified], condition: str) -> None:
    if condition and len(verified) > 1:
        raise UsageError(
            f"--condition: must go with one file, got {len(verified)}; import them one by one"
        )
    places: dict[tuple[str, Condition], Path] = {}
    for found in verified:
        place = (found.cell.split, found.cell.condition)
        if place in places:
            raise UsageError(
                f"{found.file.path}: each condition must be given once, got {place[1]} also in "
                f"{places[place]}"
            )
        places[place] = found.file.path


def _score(scores: Scores, found: _Verified) -> tuple[Measurement, ...]:
    weights = scores.weights(len(found.predictions), found.predictions.groups)
    return tuple(scores.score(found.predictions, weights))


def _origin(mine: Candidate, source: Candidate, item: Json, found: _Verified) -> Iterator[str]:
    where = item["device"] or "an unnamed target"
    yield f"{mine.label}: predicted elsewhere, by {source.label} on {where}"
    share = found.agreement
    if share is not None and found.cell.condition.is_clean and share < AGREEMENT_FLOOR:
        yield (
            f"{mine.label}: {where} predicts the class that {source.label} predicts here for only "
            f"{100 * share:.2f} % of the clean {found.cell.split} images"
        )


# costs


def _sizes(results: Results, source: Candidate, network: Path | None) -> tuple[Measurement, ...]:
    """Return the sizes of the candidate: those of its origin, or of the file on the target."""
    cells = {c.candidate: c.key for c in results.cells if c.evaluator == "size"}
    shards = {who: results.shards.get(key) for who, key in cells.items()}
    own = shards.get(source.key)
    found = {} if own is None else {m.metric: m for m in own.measurements}
    if network is None:
        told = f"of the exported file of {source.label}, not of what the target executes"
        return tuple(replace(m, reason=told) for m in found.values())
    if not network.is_file():
        raise DataError(f"--network: {network} cannot be read (no such file)")
    baseline = next(
        c.key for c in results.candidates if c.model == source.model and c.role == "baseline"
    )
    base = shards.get(baseline)
    sizes = {"cost.bytes": file_bytes(network), "cost.bytes_zip": zip_bytes(network)}
    told = f"of {network.name}, which the target executes"
    mine = [_measurement(name, float(size), told) for name, size in sizes.items()]
    reference = {} if base is None else {m.metric: m.value for m in base.measurements}
    for ratio, name in (
        ("cost.compression_ratio", "cost.bytes"),
        ("cost.compression_ratio_zip", "cost.bytes_zip"),
    ):
        above = reference.get(name)
        if above is not None and sizes[name]:
            mine.append(_measurement(ratio, above / sizes[name], told))
    kept = ("cost.parameters", "cost.nonzero", "cost.macs", "cost.parameters_ratio")
    return (*mine, *(found[name] for name in (*kept, "cost.macs_ratio") if name in found))


def _keep_seconds(store: Store, found: _Verified) -> None:
    seconds = found.seconds
    if seconds is not None:
        path = store.path / "predictions" / found.cell.key / _LATENCY
        replace_file(path, lambda f: np.save(f, seconds))


def _write_latency(store: Store, mine: Candidate, environment: str, item: Json) -> None:
    """Write the latency of a candidate from the times of all its imported cells."""
    kept = store.read_json(IMPORTED)
    times = []
    for entry in kept["cells"]:
        cell = Cell.from_json(entry["cell"])
        path = store.path / "predictions" / cell.key / _LATENCY
        if cell.candidate == mine.key and path.is_file():
            times.append(np.load(path, allow_pickle=False))
    if not times:
        return
    seconds = np.concatenate(times)
    told = (
        f"one image on {item['device'] or 'an unnamed target'}, as timed there: not comparable "
        f"with times of other machines; {_ONE_SESSION}"
    )
    values = {
        "cost.latency_median": float(np.median(seconds)),
        "cost.latency_p95": float(np.quantile(seconds, 0.95)),
    }
    numbers = tuple(_measurement(n, v, told, count=len(seconds)) for n, v in values.items())
    cell = Cell(key_of("foreign-latency", mine.key), mine.key, "latency", "artifact")
    store.write_cell(Shard(cell, numbers, environment, {"latency": 1}))
    _enter(store, item, [{"cell": cell.as_json(), "beside": ""}])


def _measurement(name: str, value: float, reason: str, count: int = 0) -> Measurement:
    known = METRIC_NAMES[name]
    return Measurement(name, value, known.unit, known.better.value, count=count, reason=reason)


def _enter(store: Store, item: Json, cells: Sequence[Json]) -> None:
    """Enter a candidate and cells into the list of what was imported; equal places are replaced."""
    kept: Json = store.read_json(IMPORTED) or {"candidates": [], "cells": []}
    key = item["candidate"]["key"]
    others = [i for i in kept["candidates"] if i["candidate"]["key"] != key]
    places = {_where(entry): entry["cell"]["key"] for entry in cells}
    gone = []
    mine = []
    for entry in kept["cells"]:
        new = places.get(_where(entry))
        if new is None:
            mine.append(entry)
        elif new != entry["cell"]["key"]:
            gone.append(entry["cell"]["key"])
    store.write_json(IMPORTED, {"candidates": [*others, item], "cells": [*mine, *cells]})
    for old in gone:
        (store.path / "cells" / f"{old}.jsonl").unlink(missing_ok=True)
        shutil.rmtree(store.path / "predictions" / old, ignore_errors=True)


def _where(entry: Any) -> tuple[str, ...]:
    cell = entry["cell"]
    return tuple(cell[name] for name in ("candidate", "evaluator", "form", "split", "condition"))
