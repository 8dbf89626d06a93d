"""Boxes at the operating point, calibration of scores, and the pictures of detectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.predictions import DetectionPredictions
from shrinkproof.records import CLEAN
from shrinkproof.summary import Summary

from .detector_worlds import (
    COUNT,
    FOG,
    Box,
    candidates,
    detections,
    finding,
    scattered,
    summary_of,
    with_settings,
)
from .worlds import exhibits, number

KINDS = ("scaled", "isotonic", "platt")


def value(
    summary: Summary, metric: str, condition: str = "clean", part: str = "", candidate: str = "a"
) -> float | None:
    hits = {
        row.measurement.value
        for row in summary.rows
        if (row.candidate, row.split) == (f"net/{candidate}", "report")
        and (row.measurement.metric, row.condition) == (metric, condition)
        and row.measurement.slice == part
    }
    assert len(hits) == 1, metric
    return hits.pop()


def exchanged(image: int) -> Sequence[Box]:
    """Loses the object of images 0 to 3, names that of 4 and 5 wrongly, and invents boxes in 6."""
    if image < 4:
        return []
    kind = "other" if image < 6 else "right"
    return [(0.9, kind), *([(0.8, "wrong")] if image == 6 else [])]


def both(**found: object) -> dict:
    """The same detections on both splits and under all conditions."""
    rows = {
        (f"net/{name}", condition): item
        for name, item in found.items()
        for condition in (CLEAN, *FOG)
    }
    return {"select": rows, "report": dict(rows)}


@pytest.fixture(scope="module")
def summary() -> Summary:
    rows = both(baseline=finding(COUNT), a=detections(exchanged))
    return summary_of(candidates(["a"]), rows)


def test_the_threshold_is_that_of_the_baseline_on_the_select_split(summary: Summary) -> None:
    (row,) = [r for r in summary.rows if r.measurement.metric == "boxes.threshold"]
    assert (row.candidate, row.split, row.condition) == ("net/baseline", "select", "clean")
    assert row.measurement.value == pytest.approx(0.9 - (COUNT - 1) / 1000)
    (point,) = exhibits(summary, "operating-point")
    assert (point["model"], point["split"], point["f1"]) == ("net", "select", 1.0)
    assert point["threshold"] == row.measurement.value


def test_lost_new_and_flipped_boxes_are_those_of_the_hand(summary: Summary) -> None:
    for condition in ("clean", "corrupted"):
        assert value(summary, "boxes.lost", condition) == pytest.approx(4 / COUNT)
        assert value(summary, "boxes.flipped", condition) == pytest.approx(2 / COUNT)
        assert value(summary, "boxes.miss_rate", condition) == pytest.approx(6 / COUNT)
    # The wrong box of image 6 stays below the threshold; the misnamed ones are wrong, not new.
    assert value(summary, "boxes.new") == 0
    assert value(summary, "boxes.false_per_image") == pytest.approx(2 / COUNT)
    assert value(summary, "change.boxes.miss_rate") == pytest.approx(6 / COUNT)
    assert number(summary, "net/baseline", "boxes.lost") is None
    assert number(summary, "net/a", "change.boxes.lost") is None


def test_miss_rates_are_stated_by_class_and_size(summary: Summary) -> None:
    for name in ("cat", "dog"):
        assert value(summary, "boxes.miss_rate", "clean", f"class={name}") == pytest.approx(3 / 20)
        part = f"class={name}"
        assert value(summary, "boxes.miss_rate", "corrupted", part) == pytest.approx(3 / 20)
    # Objects of 40 x 40 pixels are medium.
    assert value(summary, "boxes.miss_rate", "clean", "size=medium") == pytest.approx(6 / COUNT)
    assert value(summary, "boxes.miss_rate", "clean", "size=small") is None
    parts = [r for r in summary.rows if r.measurement.slice]
    assert {r.condition for r in parts} == {"clean", "corrupted"}


def test_every_number_of_boxes_states_its_protocol(summary: Summary) -> None:
    told = [
        r.measurement.reason
        for r in summary.rows
        if r.measurement.metric.endswith(("miss_rate", "lost", "false_per_image"))
        and r.measurement.value is not None
    ]
    assert told
    assert all("score >= 0.861, IoU >= 0.5; COCO matching" in reason for reason in told)


def test_without_a_select_split_there_is_no_operating_point() -> None:
    rows = both(baseline=finding(COUNT), a=detections(exchanged))["report"]
    found = summary_of(candidates(["a"]), rows)
    told = number(found, "net/baseline", "boxes.threshold")
    assert told is not None
    assert told.value is None
    assert told.reason.startswith("an operating point is chosen on the select split")
    assert number(found, "net/a", "boxes.miss_rate") is None
    (images,) = exhibits(found, "detected-images")
    assert (images["images"], images["threshold"]) == ([], None)
    assert images["reason"] == told.reason


def test_rules_about_a_class_are_resampled() -> None:
    watched = ("boxes.miss_rate{class=dog}@clean", "boxes.lost@corrupted")
    settings = with_settings(deciding="select", watched=watched)
    rows = both(baseline=finding(COUNT), a=detections(exchanged))
    found = summary_of(candidates(["a"]), rows, settings).resampled
    assert found is not None
    assert np.isfinite(found.values[:, 1]).all()
    assert found.values[:, 1, 0].mean() == pytest.approx(3 / 20, abs=0.03)
    # A baseline cannot lose its own boxes.
    assert np.isnan(found.values[:, 0, 1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_scores_have_numbers_of_their_own(kind: str) -> None:
    rows = both(baseline=scattered(0, 120), a=too_sure(scattered(1, 120)))
    found = summary_of(candidates(["a"]), rows)
    before = number_on(found, "null_mean.detection.d_ece")
    assert 0 < before < 1
    after = value(found, f"{kind}.detection.d_ece")
    own = value(found, f"change.{kind}.detection.d_ece")
    base = value(found, f"{kind}.detection.d_ece", candidate="baseline")
    assert after is not None
    assert base is not None
    assert own == pytest.approx(after - base)
    told = [r.measurement for r in found.rows if r.measurement.metric == f"{kind}.detection.d_ece"]
    assert all("correction, one for all classes, fitted on" in m.reason for m in told)
    assert value(found, f"null_p.{kind}.detection.d_ece") is not None
    # Nothing is judged on the images that chose the calibration.
    assert {r.split for r in found.rows if f"{kind}." in r.measurement.metric} == {"report"}
    ranking = [r for r in found.rows if r.measurement.metric == f"{kind}.detection.ap50"]
    assert bool(ranking) is (kind == "isotonic")


def number_on(found: Summary, metric: str) -> float:
    known = value(found, metric)
    assert known is not None
    return known


def too_sure(found: DetectionPredictions) -> DetectionPredictions:
    return replace(found, score=np.cbrt(found.score))


def test_a_calibration_that_cannot_be_fitted_says_why() -> None:
    rows = both(baseline=finding(COUNT), a=finding(COUNT))
    found = summary_of(candidates(["a"]), rows)
    for metric in ("calibration.temperature", "isotonic.detection.d_ece"):
        told = number(found, "net/a", metric)
        assert told is not None
        assert told.value is None
        assert "needs at least 10 right and 10 wrong detections" in told.reason


def test_twin_and_artifact_agree_on_the_boxes_that_both_have() -> None:
    rows = both(baseline=finding(COUNT), a=finding(COUNT))
    twin = detections(lambda i: [(0.9, "right"), *([(0.88, "wrong")] if i < 10 else [])])
    rows["report"]["net/a!twin", CLEAN] = twin
    rows["report"]["net/a", CLEAN] = detections(lambda i: [(0.9, "other" if i < 2 else "right")])
    told = number(summary_of(candidates(["a"]), rows), "net/a", "fidelity.agreement")
    assert told is not None
    assert told.value == pytest.approx(2 * (COUNT - 2) / (2 * COUNT + 10))
    assert "score >= 0.861 in one form that the other one has" in told.reason
    assert "IoU >= 0.5, at any score" in told.reason


def test_the_images_hit_hardest_show_both_sides(summary: Summary) -> None:
    (found,) = exhibits(summary, "detected-images")
    json.dumps(found)
    assert (found["candidate"], found["baseline"]) == ("net/a", "net/baseline")
    assert found["affected"] == 4
    assert [image["index"] for image in found["images"]] == [100, 101, 102, 103]
    assert [image["condition"] for image in found["images"]] == ["clean"] * 3 + ["fog:1"]
    first = found["images"][0]
    assert (first["lost"], first["new"], first["size"]) == (1, 0, [100, 120])
    assert first["objects"] == [{"box": [10, 10, 50, 50], "class": "cat", "crowd": False}]
    assert first["baseline"] == [
        {
            "box": [10, 10, 50, 50],
            "class": "cat",
            "score": 0.9,
            "state": "right",
            "fate": "lost",
        }
    ]
    assert first["candidate"] == []


def test_scenes_stand_side_by_side(summary: Summary) -> None:
    (found,) = exhibits(summary, "detected-scenes")
    assert [image["index"] for image in found["images"]] == [100, 113, 126, 139]
    assert {image["condition"] for image in found["images"]} == {"fog:2"}
    for image in found["images"]:
        for who in ("baseline", "candidate"):
            assert {f"{who}_clean", f"{who}_corrupted"} < set(image)
    assert found["images"][0]["candidate_clean"] == []
    assert found["images"][0]["baseline_corrupted"][0]["state"] == "right"


def test_boxes_on_the_images_that_chose_the_threshold_say_so() -> None:
    rows = both(baseline=scattered(0), a=scattered(1))["select"]
    settings = with_settings(conditions=(CLEAN,), metrics=("detection.ap50",))
    rows = {key: item for key, item in rows.items() if key[1] == CLEAN}
    chosen = "the threshold was chosen on these images"
    for judged, is_told in (({"select": rows}, True), ({"select": rows, "report": rows}, False)):
        found = summary_of(candidates(["a"]), judged, settings)
        printed = "select" if is_told else "report"
        told = [
            row.measurement.reason
            for row in found.rows
            if row.split == printed and row.measurement.metric == "boxes.lost"
        ]
        assert told
        assert all((chosen in text) is is_told for text in told)


def test_what_a_mean_over_classes_leaves_out_is_told_of_both_and_over_conditions() -> None:
    metric = "detection.laece"
    cats = detections(lambda image: [(0.9, "right")] if image % 2 == 0 else [])
    rows = {("net/baseline", condition): scattered(0) for condition in (CLEAN, *FOG)}
    rows |= {("net/a", condition): scattered(0) for condition in (CLEAN, FOG[1])}
    rows["net/a", FOG[0]] = cats
    found = summary_of(candidates(["a"]), rows, with_settings(metrics=("detection.ap50", metric)))
    (one,) = [
        row.measurement.reason
        for row in found.rows
        if (row.condition, row.severity, row.measurement.metric) == ("fog", 1, f"change.{metric}")
    ]
    assert "mean over the 1 of 2 classes with detections that count" in one
    assert "of what it is compared with: mean over all 2 classes" in one
    every = number(found, "net/a", metric, "corrupted")
    assert every is not None
    assert "mean over" not in every.reason
    assert "the classes that count differ between conditions" in every.reason
    assert "IoU >= 0.1" in every.reason
