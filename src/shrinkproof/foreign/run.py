"""From tables of foreign results to a run directory that every reading command understands."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from shrinkproof.errors import UsageError
from shrinkproof.foreign.entries import ACCURACY, NO_INTERVAL, Entry, Scale
from shrinkproof.foreign.fronts import fronts
from shrinkproof.foreign.joined import (
    ORIGINAL,
    Known,
    Name,
    Tables,
    collect,
    names_of,
    notes_of,
    plain_name,
    read_tables,
    reconcile,
)
from shrinkproof.foreign.published import compare_published, is_rounded
from shrinkproof.foreign.sheet import Sheet, read_mapping
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.detection.names import AP
from shrinkproof.protocols import Measurement
from shrinkproof.records import (
    CLEAN,
    SEVERITIES,
    STANDARD_15,
    Candidate,
    Cell,
    Condition,
    Json,
    key_of,
)
from shrinkproof.results import Results
from shrinkproof.store import Shard, Store

MARK: Final = "import.json"
"""File of an imported run: from what it was made."""

ELSEWHERE: Final = "elsewhere"
"""Key of the environment of foreign numbers."""


LIKE_PUBLISHED: Final = (
    "mCE and relative mCE take each corruption error in whole percent, as the published column "
    "does; --exact takes it as it is"
)


def import_results(
    files: Sequence[Path],
    out: Path,
    *,
    mapping: Sequence[str] = (),
    baseline: str = ORIGINAL,
    dataset: str = "",
    scale: Scale = "auto",
    rounded: bool | None = None,
) -> Results:
    """Make a run directory of results that were measured elsewhere, and return it.

    Several files are joined by data set, network and variant. Everything is checked before anything
    is written.

    Args:
        files: CSV files; the layout of each is recognized by its header.
        out: the run directory; an earlier import in it is replaced.
        mapping: ``theirs=ours`` for columns, metrics and corruptions, or YAML files of such lines.
        baseline: variant that stands for the uncompressed network.
        dataset: take only the rows of this data set; empty for all.
        scale: how errors and accuracies are written; ``auto`` lets the values tell.
        rounded: round each corruption error to whole percent, as some publications do; None does
            so where the tables have a column of mCE that only rounding reproduces.

    Raises:
        DataError: a file cannot be understood; the message has the line.
        UsageError: a mapping is wrong, or ``out`` holds a run of its own.
    """
    if not files:
        raise UsageError("import: must be given at least one CSV file, got none")
    tables = read_tables(files, read_mapping(mapping), scale, dataset)
    names = names_of(tables.entries, baseline)
    known = collect(tables.entries, names)
    _check_target(out)
    store = Store.create(out)
    origin = {
        "files": [
            {"file": sheet.name, "sha256": sheet.sha256, "layout": layout}
            for sheet, layout in zip(tables.sheets, tables.layouts, strict=True)
        ]
    }
    like_published = rounded is None and is_rounded(known)
    rounded = like_published if rounded is None else rounded
    notes = [
        *([LIKE_PUBLISHED] if like_published else []),
        *tables.notes,
        *notes_of(tables.entries, known, baseline),
        *reconcile(known),
        *compare_published(known, rounded=rounded),
        *fronts(known, rounded=rounded),
    ]
    candidates = _candidates(known, origin)
    conditions = _conditions(known)
    text = _study(known, tables.sheets, conditions, rounded=rounded)
    shards = list(_shards(known, candidates, origin))
    _forget(store)
    for label, candidate in candidates.items():
        about = {"variant": _variant(known[label]), **origin}
        store.write_candidate(candidate, functools.partial(_about, about))
    store.write_cells(shards)
    store.write_environment(ELSEWHERE, {"measured": ELSEWHERE, **origin})
    store.write_json("data.json", _data(tables, known, notes))
    store.write_text(store.path / "study.yaml", text)
    store.write_plan(list(candidates.values()), [shard.cell for shard in shards])
    store.write_json(MARK, origin)
    return Results.load(out)


def _check_target(out: Path) -> None:
    if (out / "plan.jsonl").exists() and not (out / MARK).exists():
        raise UsageError(
            f"--out: {out} must be a new directory or an earlier import, got a run; its results "
            "would be lost"
        )


def _forget(store: Store) -> None:
    """Remove the cells of an earlier import."""
    for path in (store.path / "cells").glob("*.json*"):
        path.unlink()


def _about(facts: Json, folder: Path) -> Json:
    """Return what is known of a candidate; it has no other file."""
    del folder
    return facts


def _candidates(known: Mapping[Name, Known], origin: Json) -> dict[Name, Candidate]:
    found: dict[Name, Candidate] = {}
    for model, recipe in known:
        key = key_of("candidate", {"foreign": origin, "model": model, "recipe": recipe})
        if recipe == "baseline":
            found[model, recipe] = Candidate(key, model, recipe, role="baseline")
        else:
            control = found[model, "baseline"].key
            found[model, recipe] = Candidate(key, model, recipe, control=control)
    return found


def _variant(numbers: Known) -> str:
    entries = (*numbers.scores.values(), *numbers.alone.values())
    return next(entry.variant for entry in entries)


def _conditions(known: Mapping[Name, Known]) -> list[Condition]:
    found = {c: None for numbers in known.values() for _, c, _ in numbers.scores}
    order = {name: position for position, name in enumerate(STANDARD_15)}
    return sorted(found, key=lambda c: (order.get(c.corruption, len(order)), c))


def _shards(
    known: Mapping[Name, Known], candidates: Mapping[Name, Candidate], origin: Json
) -> Iterator[Shard]:
    for name, numbers in known.items():
        key = candidates[name].key
        groups: dict[tuple[str, str, Condition], list[Entry]] = {}
        for (split, condition, metric), entry in numbers.scores.items():
            kind = "scores" if metric in METRICS else "foreign"
            groups.setdefault((kind, split, condition), []).append(entry)
        for metric, entry in numbers.alone.items():
            groups.setdefault((_evaluator(metric), "", CLEAN), []).append(entry)
        for (evaluator, split, condition), entries in groups.items():
            parts = [origin, key, evaluator, split, str(condition)]
            cell = Cell(key_of("foreign", parts), key, evaluator, "artifact", split, condition)
            versions = {entry.metric: 1 for entry in entries}
            yield Shard(cell, tuple(_measurement(e) for e in entries), ELSEWHERE, versions)


def _evaluator(metric: str) -> str:
    if metric.startswith(("cost.latency", "cost.memory")):
        return "latency"
    return "size" if metric.startswith("cost.") else "foreign"


def _measurement(entry: Entry) -> Measurement:
    has_interval = entry.low is not None and entry.high is not None
    told = (f"{entry.file}, {NO_INTERVAL}", entry.note)
    return Measurement(
        metric=entry.metric,
        value=entry.value,
        unit=entry.unit,
        better=entry.better,
        low=entry.low if has_interval else None,
        high=entry.high if has_interval else None,
        interval="as published" if has_interval else "",
        count=entry.count,
        reason="; ".join(text for text in told if text),
    )


def _data(tables: Tables, known: Mapping[Name, Known], notes: Sequence[str]) -> Json:
    scored = [item for numbers in known.values() for item in numbers.scores.items()]
    counts = [entry.count for (_, _, metric), entry in scored if metric in METRICS]
    files = ", ".join(sheet.name for sheet in tables.sheets)
    digests = [sheet.sha256 for sheet in tables.sheets]
    split: Json = {
        "source": files,
        "count": max(counts, default=0),
        "fingerprint": key_of("tables", digests),
        "classes": [],
    }
    splits = dict.fromkeys(s for numbers in known.values() for s, _, _ in numbers.scores)
    return {
        "splits": {name: split for name in splits or ["report"]},
        "notes": list(notes),
        "contamination": {},
        "origins": {},
    }


def _study(
    known: Mapping[Name, Known],
    sheets: Sequence[Sheet],
    conditions: Sequence[Condition],
    *,
    rounded: bool,
) -> str:
    """Return the study file of the run: what its reading commands need, and nothing to run."""
    use = f"foreign:{sheets[0].name.replace(' ', '-')}"
    severities: dict[str, list[int]] = {}
    for condition in conditions:
        if not condition.is_clean:
            severities.setdefault(condition.corruption, []).append(condition.severity)
    splits = dict.fromkeys(s for numbers in known.values() for s, _, _ in numbers.scores)
    metrics = dict.fromkeys(
        m for numbers in known.values() for _, _, m in numbers.scores if m in METRICS
    )
    content: Json = {
        "study": plain_name(Path(sheets[0].name.removesuffix(".gz")).stem) or "foreign",
        **({"task": "detection"} if AP in metrics else {}),
        "models": {model: {"use": use} for model in dict.fromkeys(m for m, _ in known)},
        "data": {name: use for name in splits or ["report"]},
        "controls": "none",
        "measure": {"scores": list(metrics) or [ACCURACY]},
    }
    if severities:
        content["conditions"] = severities
        content["measure"]["robustness"] = {"rounded": rounded}
    select = _select(known, severities)
    if select:
        content["select"] = select
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def _select(known: Mapping[Name, Known], severities: Mapping[str, Sequence[int]]) -> Json:
    """Return what the front is about: size, robustness and accuracy, as far as they are known."""
    is_complete = all(set(severities.get(name, ())) >= set(SEVERITIES) for name in STANDARD_15)
    maximize, minimize = [], []
    ratio = "cost.compression_ratio_zip"
    if any(ratio in numbers.alone for numbers in known.values()):
        maximize.append(ratio)
    scored = {(m, c.is_clean) for n in known.values() for _, c, m in n.scores}
    maximize += [f"{m}@clean" for m in (ACCURACY, AP) if (m, True) in scored]
    maximize += ["robustness.mpc@corrupted"] if (AP, False) in scored else []
    if (ACCURACY, False) in scored:
        minimize.append("robustness.mce" if is_complete else "robustness.mean_error")
    if not maximize and not minimize:
        return {}
    return {"minimize": minimize, "maximize": maximize}
