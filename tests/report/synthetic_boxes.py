"""A made-up study of detectors for the tests of the page: planted numbers, no measurement."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from synthetic_page import Plant, bins_of, candidate, frame, record

from shrinkproof.decision.choice import Objective, Option, decide
from shrinkproof.protocols import Better
from shrinkproof.report.page import Page
from shrinkproof.selectors import Selector

MPC, RPC, ECE, BYTES = "robustness.mpc", "robustness.rpc", "detection.d_ece", "cost.bytes"
PROTOCOL = "bins of score; IoU >= 0.5; scores >= 0.3, at most 100 detections per class and image"
POINT = "score >= 0.5, IoU >= 0.5; COCO matching by falling score; crowd regions ignored"
PLANTS = (
    Plant("baseline", "baseline", 0.5, 0.25, 0.12, 900_000, 0.004),
    Plant("prune0.5", "recipe", 0.4, 0.24, 0.14, 400_000, 0.003, control="control.finetune10"),
    Plant("int8", "recipe", 0.49, 0.25, 0.11, 250_000, 0.002),
    Plant("control.finetune10", "control", 0.51, 0.26, 0.12, 900_000, 0.004),
)
CORRUPTIONS = {"fog": 1.2, "gaussian_noise": 0.8}
HIGHER = {"better": "higher"}
PIXEL = base64.b64encode(b"RIFF-a picture").decode()


def rows_of(plant: Plant) -> Iterator[dict[str, Any]]:
    yield from _changed(plant, "detection.ap", plant.top1, PLANTS[0].top1, "clean", **HIGHER)
    yield record(plant, "detection.ap50", plant.top1 + 0.2, condition="clean", **HIGHER)
    yield record(plant, "detection.ap_large", None, condition="clean", status="undefined",
                 reason="there are no objects of at least 96 x 96 pixels")  # fmt: skip
    for name, hard in CORRUPTIONS.items():
        for severity in (1, 3):
            value = plant.robust * hard * (1.5 if severity == 1 else 0.5)
            base = PLANTS[0].robust * hard * (1.5 if severity == 1 else 0.5)
            yield from _changed(
                plant, "detection.ap", value, base, name, severity=severity, **HIGHER
            )
    groups = {**CORRUPTIONS, "weather": 1.2, "noise": 0.8, "corrupted": 1.0}
    for place, hard in groups.items():
        mpc, base = plant.robust * hard, PLANTS[0].robust * hard
        told = {**HIGHER, "reason": "P is detection.ap; mean over fog, gaussian_noise"}
        yield from _changed(plant, MPC, mpc, base, place, **told)
        yield record(plant, RPC, mpc / plant.top1, condition=place, unit="ratio", **told)
        yield record(plant, "robustness.mpc_of_baseline", mpc / PLANTS[0].top1, condition=place,
                     unit="ratio", **told)  # fmt: skip
    yield from _calibration_rows(plant)
    yield from _box_rows(plant)
    yield record(plant, BYTES, float(plant.size), unit="bytes", split="")


def _changed(
    plant: Plant, metric: str, value: float, base: float, place: str, **other: Any
) -> Iterator[dict[str, Any]]:
    yield record(
        plant, metric, value, condition=place, low=value - 0.02, high=value + 0.02, **other
    )
    if plant.role != "baseline":
        gap = value - base
        ends = {"low": gap - 0.01, "high": gap + 0.01}
        yield record(plant, f"change.{metric}", gap, condition=place, **ends, **other)


def _calibration_rows(plant: Plant) -> Iterator[dict[str, Any]]:
    for metric in (ECE, "detection.laece", "detection.laace"):
        for place in ("clean", "corrupted"):
            told = {"condition": place, "reason": PROTOCOL}
            yield from _changed(plant, metric, plant.ece, PLANTS[0].ece, place, reason=PROTOCOL)
            for number, prefix in enumerate(("scaled.", "platt.", "isotonic.")):
                yield record(plant, prefix + metric, plant.ece / (2 + number), **told)
    yield record(plant, f"null_mean.{ECE}", 0.03, condition="clean")
    yield record(plant, f"null_q95.{ECE}", 0.05, condition="clean")
    yield record(plant, f"null_p.{ECE}", 0.002, condition="clean", unit="probability")
    fitted = "temperature correction, one for all classes, fitted on 350 right and 60 wrong"
    yield record(plant, "calibration.temperature", 0.8, condition="clean", split="select",
                 unit="ratio", reason=f"{fitted} detections with scores >= 0.3")  # fmt: skip


def _box_rows(plant: Plant) -> Iterator[dict[str, Any]]:
    for place, hard in (("clean", 1.0), ("corrupted", 2.0)):
        told = {"condition": place, "reason": POINT}
        for part, more in (("", 0), ("class=cat", 1), ("class=dog", 2), ("size=small", 3),
                           ("size=large", 4)):  # fmt: skip
            value = hard * (0.1 + 0.01 * more + (0.5 - plant.top1) / 4)
            yield record(plant, "boxes.miss_rate", value, slice=part, **told)
        yield record(plant, "boxes.false_per_image", 1.5 * hard, unit="ratio", **told)
        if plant.role != "baseline":
            for metric, value in (("lost", 0.061), ("flipped", 0.012), ("new", 0.34)):
                unit = {"unit": "ratio"} if metric == "new" else {}
                yield record(plant, f"boxes.{metric}", value * hard, **unit, **told)


def box(
    left: int, name: str, state: str = "right", score: float = 0.75, **more: Any
) -> dict[str, Any]:
    corners = [float(left), 10.0, left + 20.0, 40.0]
    return {"box": corners, "class": name, "score": score, "state": state, **more}


OBJECTS = [
    {"box": [10.0, 10.0, 30.0, 40.0], "class": "cat", "crowd": False},
    {"box": [50.0, 10.0, 70.0, 40.0], "class": "dog", "crowd": False},
    {"box": [0.0, 50.0, 100.0, 60.0], "class": "cat", "crowd": True},
]


def scene_exhibit(label: str) -> dict[str, Any]:
    """Return an exhibit of one image: under fog the candidate loses the dog and invents a cat."""
    image = {
        "index": 7,
        "size": [80, 160],
        "objects": OBJECTS,
        "condition": "fog:3",
        "baseline_clean": [box(10, "cat"), box(50, "dog")],
        "candidate_clean": [box(10, "cat"), box(50, "dog", score=0.66)],
        "baseline_corrupted": [box(10, "cat"), box(50, "dog")],
        "candidate_corrupted": [box(10, "cat"), box(110, "cat", "wrong", 0.91)],
    }
    return {"model": "net", "candidate": label, "baseline": "net/baseline", "split": "report",
            "threshold": 0.5, "images": [image], "reason": ""}  # fmt: skip


def hit_exhibit(label: str) -> dict[str, Any]:
    scene = scene_exhibit(label)
    image = scene["images"][0]
    hit = {name: image[name] for name in ("index", "size", "objects", "condition")}
    hit |= {"lost": 1, "new": 1}
    hit |= {side: image[f"{side}_corrupted"] for side in ("baseline", "candidate")}
    return {**scene, "images": [hit], "affected": 9}


def point_exhibit() -> dict[str, Any]:
    return {"model": "net", "baseline": "net/baseline", "split": "select", "threshold": 0.5,
            "f1": 0.79, "precision": 0.8, "recall": 0.78, "iou": 0.5}  # fmt: skip


def page_of_boxes(**changes: Any) -> Page:
    rows = [{**row, "model": "net"} for plant in PLANTS for row in rows_of(plant)]
    labels = [candidate(p, "net").label for p in PLANTS]
    options = [
        Option(label, f"key-{p.recipe}", p.role, {MPC: p.robust, BYTES: float(p.size)}, {})
        for p, label in zip(PLANTS, labels, strict=True)
    ]
    objectives = [
        Objective(Selector.parse(MPC), Better.HIGHER),
        Objective(Selector.parse(BYTES), Better.LOWER),
    ]
    values = {
        "study": "boxes",
        "generated": "2026-11-20 14:03 UTC",
        "version": "0.1.0",
        "records": frame(rows),
        "candidates": [candidate(plant, "net") for plant in PLANTS],
        "decision": decide(options, objectives, []),
        "decision_objectives": (MPC, BYTES),
        "reliability": {
            (label, kind): bins_of(p, kind)
            for p, label in zip(PLANTS, labels, strict=True)
            for kind in ("clean", "corrupted")
        },
        "exhibits": {
            "operating-point": [point_exhibit()],
            "detected-scenes": [scene_exhibit(label) for label in labels[1:]],
            "detected-images": [hit_exhibit(label) for label in labels[1:]],
        },
        "quality": "detection.ap",
        "pictures": {(7, at): f"data:image/webp;base64,{PIXEL}" for at in ("clean", "fog:3")},
    }
    return Page(**{**values, **changes})
