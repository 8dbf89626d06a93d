"""Time and size of the page of a large study: 50 candidates x 76 conditions x 15 metrics.

Every metric comes with its change, and calibration errors with temperatures and null levels, as a
run has them: about 300,000 rows. Uncertainty, fronts, a certificate and pictures are there too.

Run it alone on an idle machine: ``python benchmarks/report.py``. Budget: 10 s and 2 MB.
"""

from __future__ import annotations

import argparse
import base64
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from shrinkproof.decision.choice import Decision, Objective, Option, decide
from shrinkproof.decision.fronts import Axis, make_front
from shrinkproof.protocols import Better
from shrinkproof.records import COLUMNS, STANDARD_15, Candidate, Condition, Json
from shrinkproof.report.page import Page, render
from shrinkproof.report.samples import HIT_LIMIT, IMAGE_LIMIT, HitImage, Said
from shrinkproof.selectors import Selector

METRICS = (
    "accuracy.top1",
    "accuracy.nll",
    "accuracy.brier",
    "calibration.ece",
    "calibration.ece_equal_mass",
    *(f"plugin.metric{i}" for i in range(10)),
)
CALIBRATION = tuple(name for name in METRICS if name.startswith("calibration."))
NAMES = (
    *METRICS,
    *(f"change.{name}" for name in METRICS),
    *(f"{p}.{n}" for p in ("scaled", "scaled_by_baseline") for n in CALIBRATION),
    *(f"{p}.{n}" for p in ("null_mean", "null_q95", "null_p") for n in CALIBRATION),
)
CLASSES = tuple(f"class={number}" for number in range(100))
CONDITIONS = (
    Condition(),
    *(Condition(name, s) for name in STANDARD_15 for s in range(1, 6)),
)
ERROR, BYTES = "robustness.mean_error", "cost.bytes"


@dataclass(frozen=True)
class Bins:
    """Fifteen bins of a reliability diagram."""

    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def column_values(candidate: Candidate, size: int) -> dict[str, object]:
    """Return the columns that are equal in all rows of a candidate."""
    same = dict.fromkeys(COLUMNS, "")
    same |= {"study": "large", "cell": "0123456789abcdef", "model": candidate.model}
    same |= {"recipe": candidate.recipe, "role": candidate.role, "evaluator": "scores"}
    same |= {"form": "artifact", "basis": "measured", "status": "ok", "interval": "bootstrap"}
    return {name: [value] * size for name, value in same.items()}


def scores(candidate: Candidate, rng: np.random.Generator, splits: tuple[str, ...]) -> pl.DataFrame:
    """Return the rows of all metrics under all conditions, values and changes."""
    keys = [(s, c, m) for s in splits for c in CONDITIONS for m in NAMES]
    value = rng.uniform(0.5, 0.95, len(keys))
    is_change = np.array([m.startswith("change.") for _, _, m in keys])
    value = np.where(is_change, value - 0.7, value)
    columns = column_values(candidate, len(keys)) | {
        "repeat": [0] * len(keys),
        "split": [s for s, _, _ in keys],
        "condition": [c.corruption for _, c, _ in keys],
        "severity": [c.severity for _, c, _ in keys],
        "metric": [m for _, _, m in keys],
        "value": value,
        "low": value - 0.01,
        "high": value + 0.01,
        "unit": ["fraction"] * len(keys),
        "better": ["higher" if "top1" in m else "lower" for _, _, m in keys],
        "count": [10_000] * len(keys),
    }
    return pl.DataFrame(columns).select(COLUMNS)


def classes(candidate: Candidate, rng: np.random.Generator) -> pl.DataFrame:
    """Return what changed in each class."""
    value = rng.normal(-0.02, 0.03, len(CLASSES))
    columns = column_values(candidate, len(CLASSES)) | {
        "repeat": [0] * len(CLASSES), "split": ["report"] * len(CLASSES), "slice": list(CLASSES),
        "condition": ["clean"] * len(CLASSES), "severity": [0] * len(CLASSES),
        "metric": ["change.accuracy.recall"] * len(CLASSES), "value": value, "low": value - 0.02,
        "high": value + 0.02, "unit": ["fraction"] * len(CLASSES),
        "better": ["higher"] * len(CLASSES), "count": [100] * len(CLASSES),
    }  # fmt: skip
    return pl.DataFrame(columns).select(COLUMNS)


def single(candidate: Candidate, metric: str, value: float, condition: str) -> pl.DataFrame:
    """Return one row without severity."""
    unit = "bytes" if metric == BYTES else "fraction"
    columns = column_values(candidate, 1) | {
        "repeat": [0], "split": ["report" if condition else ""], "condition": [condition],
        "severity": [0], "metric": [metric], "value": [value], "low": [value * 0.98],
        "high": [value * 1.02], "unit": [unit], "better": ["lower"], "count": [10_000],
    }  # fmt: skip
    return pl.DataFrame(columns).select(COLUMNS)


def uncertainty(labels: list[str], rng: np.random.Generator) -> Json:
    """Return shares of resampled data sets."""
    return {
        "split": "select", "replicates": 1000, "level": 0.95,
        "tolerances": {ERROR: 0.01, BYTES: 1024.0},
        "front": dict(zip(labels, rng.uniform(size=len(labels)).tolist(), strict=True)),
        "chosen": {label: 1 / len(labels) for label in labels},
        "dominated": {label: tuple(labels[:3]) for label in labels[5:]},
        "indistinct": (), "notes": (), "reason": "",
    }  # fmt: skip


def certificate(labels: list[str]) -> Json:
    """Return a certificate with three promises about every condition."""
    conditions = [str(condition) for condition in CONDITIONS]
    promises = [
        {"name": f"promise{i}", "words": "error at most 20 %", "loss": "error", "limit": 0.2,
         "over": "every", "conditions": conditions}
        for i in range(3)
    ]  # fmt: skip
    verdicts = [
        {"name": p["name"], "p": 0.01, "risk": 0.15, "upper": 0.18, "worst": "fog:3",
         "units": 3000, "method": "binomial"}
        for p in promises
    ]  # fmt: skip
    rows = [
        {"label": label, "sha256": "0" * 64, "bytes": 10**6, "certified": True, "p": 0.01,
         "adjusted_p": 0.02, "promises": verdicts, "why": "every promise is shown to be kept"}
        for label in labels
    ]  # fmt: skip
    return {
        "plan": "large", "status": "valid", "why": "all keep the promises", "confidence": 0.95,
        "method": "holm", "promises": promises, "candidates": rows, "certified": labels,
        "smallest": labels[0], "images": 3000, "units": 3000, "needed": None,
        "look": {"number": 1, "of": 1, "error": 0.05, "why": ""}, "scope": [], "made": "2026",
    }  # fmt: skip


def images(decision: Decision, rng: np.random.Generator) -> dict[str, tuple[HitImage, ...]]:
    """Return pictures of random bytes, as large as those of small images."""
    answer, under = ("cat", 0.9), tuple(str(condition) for condition in CONDITIONS[1:])
    return {
        label: tuple(
            HitImage(
                index, "cat", len(under), len(CONDITIONS), under,
                tuple(
                    Said(at, base64.b64encode(rng.bytes(3000)).decode(), answer, ("dog", 0.5))
                    for at in ("clean", "fog:1")
                ),
            )
            for index in range(IMAGE_LIMIT)
        )
        for label in decision.front[:HIT_LIMIT]
    }  # fmt: skip


def exemplars(labels: list[str]) -> list[Json]:
    """Return what the summary says of the images."""
    return [
        {"candidate": label, "baseline": labels[0], "split": "report", "conditions": 76,
         "affected": 40, "reason": "",
         "images": [{"index": 1, "class": "cat", "predicted": "dog", "count": 75}]}
        for label in labels
    ]  # fmt: skip


def large_page(count: int) -> Page:
    """Return a study of ``count`` recipes with planted random numbers."""
    rng = np.random.default_rng(0)
    candidates = [
        Candidate(f"k{i}", "model", "baseline" if i == 0 else f"recipe{i}",
                  role="baseline" if i == 0 else "recipe")
        for i in range(count)
    ]  # fmt: skip
    tables, options = [], []
    for candidate in candidates:
        error, size = float(rng.uniform(0.1, 0.5)), float(rng.integers(10**5, 10**7))
        tables += [
            scores(candidate, rng, ("select", "report")),
            classes(candidate, rng),
            single(candidate, ERROR, error, "corrupted"),
            single(candidate, BYTES, size, ""),
        ]
        options.append(
            Option(candidate.label, candidate.key, candidate.role, {ERROR: error, BYTES: size})
        )
    edges = np.linspace(0, 1, 16)
    middle = (edges[1:] + edges[:-1]) / 2
    bins = Bins(edges[:-1], edges[1:], np.arange(15) * 50, middle, middle * 0.9)
    goals = [Objective(Selector.parse(name), Better.LOWER) for name in (ERROR, BYTES)]
    decision, labels = decide(options, goals), [c.label for c in candidates]
    front = make_front(
        {option.label: option.values for option in options},
        [Axis(name, Better.LOWER) for name in (ERROR, BYTES)],
        name="model, decided on the select split",
    )
    return Page(
        study="large",
        generated="2026-11-20",
        version="benchmark",
        records=pl.concat(tables),
        candidates=candidates,
        decision=decision,
        decision_objectives=(ERROR, BYTES),
        reliability={(c.label, kind): bins for c in candidates for kind in ("clean", "corrupted")},
        exhibits={"exemplars": exemplars(labels)},
        uncertainty=uncertainty(labels, rng),
        certificate=certificate(labels),
        fronts=[front.as_json()],
        images=images(decision, rng),
    )


def main() -> None:
    """Print rows, seconds and bytes; optionally write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    page = large_page(options.candidates)
    start, cpu = time.perf_counter(), time.process_time()
    html = render(page)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    size = len(html.encode()) / 1e6
    print(
        f"{len(page.records)} rows: {seconds:.2f} s (budget 10; {cpu:.2f} s of CPU), "
        f"{size:.2f} MB (budget 2)"
    )
    if options.output:
        options.output.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    main()
