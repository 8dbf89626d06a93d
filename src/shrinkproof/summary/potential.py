"""Prune potential: how far a sweep can go before a condition loses more than the margin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shrinkproof.metrics.detection.names import MPC
from shrinkproof.metrics.names import CHANGE
from shrinkproof.metrics.robustness import corruptions_of, error_terms, mean_error_terms
from shrinkproof.records import CLEAN, Candidate, Condition, Json
from shrinkproof.statistics import Interval, Terms, difference, estimate
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import CORRUPTED, Derived, Exhibit, Sweep

POTENTIAL: Final = "potential"

MILDER_WHEN_LARGER: Final = ("levels", "bits", "weight_bits", "activation_bits", "macs", "params")
"""Settings of steps whose larger values compress less; sweeps over them are walked downward."""


Changes = Mapping[str, tuple[float, Interval]]
"""``clean``, a corruption or ``corrupted`` -> change of accuracy, and its interval."""


def potentials(run: Run, rows: Sequence[Derived]) -> Iterator[Exhibit]:
    """Yield how far each sweep can go, for each model, under clean and corrupted images.

    From the mildest setting on, the potential is the last one before the first whose interval of
    "accuracy minus the baseline's" reaches below minus the margin: up to there the images show that
    no more than the margin is lost, each setting at 95 %. Values are those asked for in the study
    file (nominal). The accuracy of detectors is their average precision, under corruption mPC.

    Reference: Liebenwein et al. 2021, "Lost in pruning", arXiv:2103.03014, whose definition has a
    margin but no uncertainty.
    """
    split = run.splits.get(run.printing)
    if split is None:
        return
    baselines = [c for c in run.candidates if c.role == "baseline" and c.key in split.totals]
    for sweep in run.settings.sweeps:
        for baseline in baselines:
            recipes = {
                c.recipe: c
                for c in run.candidates
                if c.model == baseline.model and c.role == "recipe" and not c.repeat
            }
            if any(name in recipes for _, name in sweep.members):
                yield Exhibit(POTENTIAL, _walks(run, rows, sweep, baseline, recipes))


def _walks(
    run: Run,
    rows: Sequence[Derived],
    sweep: Sweep,
    baseline: Candidate,
    recipes: Mapping[str, Candidate],
) -> Json:
    quality = run.settings.quality
    margin = run.settings.margins.get(quality)
    found: Json = {
        "sweep": sweep.name,
        "parameter": sweep.parameter,
        "model": baseline.model,
        "split": run.printing,
        "metric": quality,
        "margin": margin,
        "values": "nominal",
        "rows": [],
        "reason": "" if margin is not None else "no margin stated; write one under measure.margins",
    }
    if margin is None:
        return found
    members = list(sweep.members)
    if _is_milder_when_larger(sweep, recipes):
        members.reverse()
    changes = {
        value: _changes(run, rows, recipes[name].key, baseline.key) if name in recipes else {}
        for value, name in members
    }
    noun = "accuracy" if quality == "accuracy.top1" else "average precision"
    for place in _places(run.settings.conditions):
        found["rows"].append(_walk(place, changes, margin, noun))
    return found


def _is_milder_when_larger(sweep: Sweep, recipes: Mapping[str, Candidate]) -> bool:
    """Return whether larger values compress less; a study file may call its parameter anything."""
    known = [list(recipes[name].steps) for _, name in sweep.members if name in recipes]
    names = _differing("", known[0], known[-1]) - {""} or {sweep.parameter}
    return not names.isdisjoint(MILDER_WHEN_LARGER)


def _differing(name: str, a: Any, b: Any) -> set[str]:
    """Return the names of the settings in which two recipes differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {n for key in {*a, *b} for n in _differing(key, a.get(key), b.get(key))}
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return {n for pair in zip(a, b, strict=True) for n in _differing(name, *pair)}
    return set() if a == b else {name}


def _places(conditions: Sequence[Condition]) -> list[str]:
    names = list(corruptions_of(conditions))
    clean = ["clean"] if CLEAN in conditions else []
    return [*clean, *names, CORRUPTED] if names else clean


def _changes(run: Run, rows: Sequence[Derived], key: str, baseline: str) -> Changes:
    """Return accuracy minus the baseline's under clean, each corruption, and all of them."""
    if run.settings.task == "detection":
        return _changes_in(rows, run, key)
    split = run.splits[run.printing]
    own, other = (_errors(split, k) for k in (key, baseline))
    terms = {place: difference(other[place], item) for place, item in own.items() if place in other}
    stated = split.intervals(terms)
    none = Interval(reason="there are no images, only numbers, so there is no interval")
    return {place: (estimate(item), stated.get(place, none)) for place, item in terms.items()}


def _changes_in(rows: Sequence[Derived], run: Run, key: str) -> Changes:
    """Return the changes of average precision that stand in rows already."""
    found = {}
    for row in rows:
        known = row.measurement
        is_clean = row.condition == "clean"
        metric = CHANGE + (run.settings.quality if is_clean else MPC)
        is_own = (row.candidate, row.split, row.severity) == (key, run.printing, 0)
        if is_own and known.metric == metric and known.value is not None:
            stated = Interval(known.low, known.high, known.interval, known.reason)
            found[row.condition] = (known.value, stated)
    return found


def _errors(split: Split, key: str) -> dict[str, Terms]:
    """Return the terms of the error rate in each place that was measured completely."""
    totals = split.totals.get(key)
    if totals is None:
        return {}
    wanted = split.settings.conditions
    complete = {
        name
        for name in corruptions_of(wanted)
        if all(c in totals.errors for c in wanted if c.corruption == name)
    }
    found = {name: error_terms(totals.errors, [name]) for name in complete}
    if CLEAN in totals.errors:
        found["clean"] = error_terms(totals.errors, ["clean"])
    corrupted = {c: e for c, e in totals.errors.items() if not c.is_clean}
    if corrupted and complete == set(corruptions_of(wanted)):
        found[CORRUPTED] = mean_error_terms(corrupted)
    return found


def _walk(place: str, changes: Mapping[float, Changes], margin: float, noun: str) -> Json:
    """Return the last setting that is within the margin, and what stopped the walk."""
    reached: float | None = None
    stopped: float | None = None
    reason = "every setting of the sweep is within the margin"
    for value, found in changes.items():
        problem = _problem(found.get(place), margin, noun)
        if problem:
            stopped, reason = value, problem
            break
        reached = value
    return {
        "condition": place,
        "potential": reached,
        "stopped": stopped,
        "reason": reason,
        "steps": [
            {"value": value, "change": change, "low": stated.low, "high": stated.high}
            for value, found in changes.items()
            if place in found
            for change, stated in [found[place]]
        ],
    }


def _problem(found: tuple[float, Interval] | None, margin: float, noun: str) -> str:
    """Return why a setting is not within the margin; empty where it is."""
    if found is None:
        return "it was not measured under all these conditions"
    change, stated = found
    if stated.low is None:
        return f"it has no interval: {stated.reason}"
    if stated.low >= -margin:
        return ""
    if change < -margin:
        return f"{noun} is {100 * -change:.2f} points lower, the margin is {100 * margin:g}"
    return (
        f"with these images up to {100 * -stated.low:.2f} points could be lost, the margin is "
        f"{100 * margin:g}"
    )
