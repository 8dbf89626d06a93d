"""A made-up but realistic study for the tests of the page: planted numbers, no measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from synthetic_evidence import MARGINS, evidence_rows, exhibits, noise

from shrinkproof.decision.choice import Objective, Option, decide
from shrinkproof.protocols import Better
from shrinkproof.records import COLUMNS, Candidate, Change, Record
from shrinkproof.report.page import Page
from shrinkproof.selectors import Constraint, Selector

CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
SEVERITIES = (1, 3, 5)
ERROR, BYTES, TOP1 = "robustness.mean_error", "cost.bytes", "accuracy.top1@clean"


@dataclass(frozen=True)
class Plant:
    """Planted truth of one candidate."""

    recipe: str
    role: str
    top1: float
    robust: float
    ece: float
    size: float
    latency: float
    form: str = "artifact"
    basis: str = "measured"
    control: str = ""
    steps: tuple = ()


PLANTS = (
    Plant("baseline", "baseline", 0.934, 0.212, 0.031, 1_092_000, 0.00412),
    Plant(
        "prune0.3",
        "recipe",
        0.931,
        0.221,
        0.027,
        792_000,
        0.00301,
        control="control.finetune10",
        steps=(("prune.channels", "ratio", 0.3, 0.3125),),
    ),
    Plant(
        "prune0.5",
        "recipe",
        0.924,
        0.243,
        0.024,
        561_000,
        0.00219,
        control="control.finetune10",
        steps=(("prune.channels", "ratio", 0.5, 0.5),),
    ),
    Plant(
        "prune0.7",
        "recipe",
        0.893,
        0.318,
        0.022,
        318_000,
        0.00161,
        control="control.finetune10",
        steps=(("prune.channels", "ratio", 0.7, 0.6875),),
    ),
    Plant(
        "int8",
        "recipe",
        0.932,
        0.219,
        0.033,
        301_000,
        0.00188,
        steps=(("quantize.static", "weight_bits", 8, 8),),
    ),
    Plant(
        "prune0.5-int8",
        "recipe",
        0.922,
        0.249,
        0.026,
        163_000,
        0.00102,
        control="control.finetune10",
        steps=(("prune.channels", "ratio", 0.5, 0.5), ("quantize.static", "weight_bits", 8, 8)),
    ),
    Plant(
        "cluster16",
        "recipe",
        0.928,
        0.226,
        0.035,
        171_000,
        0.00415,
        steps=(("cluster", "levels", 16, 16),),
    ),
    Plant(
        "int4-simulated",
        "recipe",
        0.871,
        0.351,
        0.071,
        0,
        0,
        form="twin",
        basis="simulated",
        steps=(("quantize.static", "weight_bits", 4, 4),),
    ),
    Plant("control.finetune10", "control", 0.935, 0.209, 0.029, 1_092_000, 0.00413),
)


NO_MCE = {
    "unit": "ratio",
    "status": "undefined",
    "reason": "mCE needs all 15 corruptions at severities 1-5",
}


def candidate(plant: Plant, model: str = "resnet20") -> Candidate:
    return Candidate(
        key=f"key-{plant.recipe}",
        model=model,
        recipe=plant.recipe,
        role=plant.role,
        control=f"key-{plant.control}" if plant.control else "",
    )


def record(plant: Plant, metric: str, value: float | None, **other) -> dict:
    fields = {
        "study": "demo",
        "cell": "0123456789abcdef",
        "model": "resnet20",
        "recipe": plant.recipe,
        "repeat": 0,
        "role": plant.role,
        "control": "",
        "evaluator": "scores",
        "form": plant.form,
        "split": "report",
        "slice": "",
        "condition": "",
        "severity": 0,
        "metric": metric,
        "value": value,
        "unit": "fraction",
        "better": "lower",
        "low": None,
        "high": None,
        "interval": "",
        "count": 5000,
        "basis": plant.basis,
        "status": "ok",
        "reason": "",
        "environment": "",
    }
    return Record(**{**fields, **other}).as_json()


def scored(plant: Plant, metric: str, value: float, half: float | None, **other) -> dict:
    ends = (
        {}
        if half is None
        else {"low": value - half, "high": value + half, "interval": "bootstrap-percentile"}
    )
    return record(plant, metric, value, **ends, **other)


def top1_at(plant: Plant, corruption: str, severity: int, split: str) -> float:
    hard = 0.75 + 0.5 * abs(noise(corruption))
    error = plant.robust * hard * (0.35 + 0.215 * severity)
    return round(1 - error + 0.004 * noise(plant.recipe, corruption, severity, split), 4)


def rows_of(plant: Plant) -> list[dict]:
    base, rows = PLANTS[0], []
    for split in ("select", "report"):
        clean = {"condition": "clean", "split": split}
        shift = 0.002 if split == "select" else 0.0
        rows.append(
            scored(plant, "accuracy.top1", plant.top1 + shift, 0.007, better="higher", **clean)
        )
        rows.append(
            scored(plant, "accuracy.nll", 3.2 * (1 - plant.top1), 0.02, unit="nat", **clean)
        )
        rows.append(scored(plant, "accuracy.brier", 1.5 * (1 - plant.top1), 0.01, **clean))
        rows.append(scored(plant, "calibration.ece", plant.ece, 0.006, **clean))
        pooled = {"condition": "corrupted", "split": split}
        rows.append(scored(plant, "calibration.ece", plant.ece * 3.1, 0.008, **pooled))
        rows.append(record(plant, "robustness.mce", None, **pooled, **NO_MCE))
        rows.append(scored(plant, ERROR, plant.robust - shift, 0.006, **pooled))
        for corruption in CORRUPTIONS:
            for severity in SEVERITIES:
                at = {"condition": corruption, "severity": severity, "split": split}
                value = top1_at(plant, corruption, severity, split)
                rows.append(scored(plant, "accuracy.top1", value, 0.01, better="higher", **at))
                if plant is not base and split == "report":
                    gap = value - top1_at(base, corruption, severity, split)
                    rows.append(
                        scored(plant, "change.accuracy.top1", gap, 0.006, better="higher", **at)
                    )
    if plant is not base:
        clean, pooled = {"condition": "clean"}, {"condition": "corrupted"}
        gap = round(plant.top1 - base.top1, 6)
        rows.append(scored(plant, "change.accuracy.top1", gap, 0.0048, better="higher", **clean))
        rows.append(
            scored(plant, f"change.{ERROR}", round(plant.robust - base.robust, 6), 0.0041, **pooled)
        )
        rows.append(
            scored(plant, "change.calibration.ece", round(plant.ece - base.ece, 6), None, **clean)
        )
    rows += evidence_rows(plant, base, record, scored)
    return rows + control_rows(plant) + scaling_rows(plant) + cost_rows(plant)


def control_rows(plant: Plant) -> list[dict]:
    """Candidate minus control; a prefix of a change that the page must not take for a metric."""
    control = next((p for p in PLANTS if p.recipe == plant.control), None)
    if control is None:
        return []
    prefix, clean = "change_from_control.", {"condition": "clean"}
    gap = round(plant.top1 - control.top1, 6)
    robust = round(plant.robust - control.robust, 6)
    ece = round(plant.ece - control.ece, 6)
    return [
        scored(plant, f"{prefix}accuracy.top1", gap, 0.0043, better="higher", **clean),
        scored(plant, prefix + ERROR, robust, 0.0037, condition="corrupted"),
        scored(plant, f"{prefix}calibration.ece", ece, None, **clean),
    ]


def scaling_rows(plant: Plant) -> list[dict]:
    fitted = {"split": "select", "condition": "clean", "unit": "ratio", "better": "none"}
    return [
        record(plant, "calibration.temperature", 1 + 10 * plant.ece, **fitted),
    ]


def cost_rows(plant: Plant) -> list[dict]:
    cost = {"split": "", "evaluator": "cost", "form": "artifact", "count": 0}
    if not plant.size:
        reason = "4-bit files cannot be exported"
        gone = {**cost, "status": "undefined", "reason": reason}
        return [
            record(plant, BYTES, None, unit="bytes", **gone),
            record(plant, "cost.latency_median", None, unit="seconds", **gone),
        ]
    timed = {**cost, "count": 200, "unit": "seconds", "environment": "a1b2c3d4"}
    ratio = plant.latency / PLANTS[0].latency
    rows = [
        record(plant, BYTES, plant.size, unit="bytes", **cost),
        record(plant, "cost.bytes_zip", round(plant.size * 0.91), unit="bytes", **cost),
        record(plant, "cost.parameters", round(plant.size / 4.01), unit="count", **cost),
        record(plant, "cost.macs", 40.8e6 * plant.size / 1_092_000, unit="count", **cost),
        record(plant, "cost.latency_median", plant.latency, **timed),
        record(plant, "cost.latency_p95", plant.latency * 1.21, **timed),
        record(plant, "cost.latency_ratio", ratio, **{**timed, "unit": "ratio"}),
    ]
    agreement = 0.973 if plant.recipe == "prune0.5-int8" else 0.998
    if "int8" in plant.recipe:
        at = {"better": "higher", "condition": "clean", "split": "select"}
        rows.append(scored(plant, "fidelity.agreement", agreement, 0.0015, **at))
    return rows


def frame(rows: list[dict]) -> pl.DataFrame:
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.select(COLUMNS)


@dataclass(frozen=True)
class Bins:
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def bins_of(plant: Plant, kind: str, number: int = 15) -> Bins:
    edges = np.linspace(0, 1, number + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    count = np.round(5000 * np.exp(6 * (middle - 1)) / 2.6).astype(np.int64)
    count[:2] = 0
    gap = plant.ece * (3.1 if kind == "corrupted" else 1.0)
    wobble = np.array([0.03 * noise(plant.recipe, kind, i) for i in range(number)])
    accuracy = np.clip(middle - gap * (0.4 + middle) + wobble, 0, 1)
    return Bins(edges[:-1], edges[1:], count, middle, accuracy)


def decision_of(plants: tuple[Plant, ...]):
    options = [
        Option(
            candidate(p).label,
            f"key-{p.recipe}",
            p.role,
            {
                ERROR: p.robust - 0.002,
                BYTES: float(p.size) if p.size else None,
                TOP1: p.top1 + 0.002,
            },
            {BYTES: "4-bit files cannot be exported"},
        )
        for p in plants
    ]
    objectives = [Objective(Selector.parse(s), Better.LOWER) for s in (ERROR, BYTES)]
    return decide(options, objectives, [Constraint.parse(f"{TOP1} >= 0.9")])


def change_of(step: tuple) -> Change:
    name, field, asked, got = step
    return Change(name, 1, {field: asked}, {field: asked}, {field: got})


STUDY_FILE = """\
study: resnet20-embedded
models:
  resnet20: {use: "file:weights/resnet20.safetensors", arch: cifar_resnet20}
data:
  split: {from: "cifar10:test", select: 2000, certify: 3000, report: rest}
recipes:
  prune{ratio}:
    grid: {ratio: [0.3, 0.5, 0.7]}
    steps:
      - prune.channels: {ratio: "{ratio}"}
      - finetune: {epochs: 10}
  int8:
    steps:
      - quantize.static: {weight_bits: 8}
select:
  minimize: [robustness.mean_error, cost.bytes]
  require: ["accuracy.top1@clean >= 0.9"]
"""


def synthetic_page(**changes) -> Page:
    rows = [row for plant in PLANTS for row in rows_of(plant)]
    seen = {
        "status": "contaminated",
        "reason": "12 images of the report split were seen in training",
    }
    rows.append(
        scored(PLANTS[4], "calibration.ece_equal_mass", 0.0344, 0.005, condition="clean", **seen)
    )
    values = {
        "study": "resnet20-embedded",
        "generated": "2026-11-20 14:03 UTC",
        "version": "0.1.0",
        "records": frame(rows),
        "candidates": [candidate(plant) for plant in PLANTS],
        "decision": decision_of(PLANTS),
        "decision_objectives": (ERROR, BYTES),
        "reliability": {
            (candidate(p).label, kind): bins_of(p, kind)
            for p in PLANTS
            if p.role != "control"
            for kind in ("clean", "corrupted")
        },
        "exhibits": exhibits([p.recipe for p in PLANTS if p.role == "recipe"]),
        "margins": MARGINS,
        "changes": {candidate(p).label: [change_of(step) for step in p.steps] for p in PLANTS},
        "failures": [
            {
                "candidate": "resnet20/int4-simulated",
                "stage": "export",
                "type": "ExportError",
                "message": "int4-simulated: 4-bit weights have no exported form; use 8 bits",
            }
        ],
        "caveats": ["report: stratified subset of 1000 of 5000 images"],
        "provenance": {
            "Study file": STUDY_FILE,
            "Commands": "shrinkproof run study.yaml runs/first\nshrinkproof report runs/first",
            "Versions": "shrinkproof 0.1.0, torch 2.13.0, onnxruntime 1.31.0",
            "Data": "report  cifar10:test[5000 of 10000]  3f9a0c71b2d4e680",
            "Environment a1b2c3d4": "CPU: 2 cores, avx512_vnni\nMemory: 16 GB\nThreads: 1",
        },
    }
    return Page(**{**values, **changes})
