"""Numbers of detectors over conditions: means, mPC and rPC, changes, what decides."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.errors import DataError
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.records import CLEAN, Condition
from shrinkproof.statistics import bootstrap_weights
from shrinkproof.summary import Summary, Sweep

from .detector_worlds import (
    COUNT,
    FOG,
    candidates,
    detections,
    finding,
    scattered,
    summary_of,
    with_settings,
)
from .worlds import exhibits, number

AP = "detection.ap50"


def value(summary: Summary, candidate: str, metric: str, condition: str = "clean") -> float | None:
    found = number(summary, f"net/{candidate}", metric, condition)
    assert found is not None, metric
    return found.value


def world(**found: tuple[int, int, int]) -> dict:
    """Objects found clean, at fog 1 and at fog 2; there are no wrong boxes, so AP is recall."""
    return {
        (f"net/{name}", condition): finding(count)
        for name, counts in found.items()
        for condition, count in zip((CLEAN, *FOG), counts, strict=True)
    }


def recall(found: int) -> float:
    """AP of a detector without wrong boxes: recall levels up to that of each class."""
    levels = [np.floor(100 * half / (COUNT / 2)) + 1 for half in ((found + 1) // 2, found // 2)]
    return float(np.mean(levels)) / 101


def test_mpc_and_rpc_are_those_of_the_hand() -> None:
    found = summary_of(candidates(["a"]), world(baseline=(40, 20, 10), a=(20, 10, 0)))
    own = (recall(20), (recall(10) + 0) / 2)
    base = (recall(40), (recall(20) + recall(10)) / 2)
    assert value(found, "baseline", "robustness.mpc", "corrupted") == pytest.approx(base[1])
    assert value(found, "baseline", "robustness.rpc", "corrupted") == pytest.approx(base[1])
    assert value(found, "a", "robustness.mpc", "corrupted") == pytest.approx(own[1])
    assert value(found, "a", "robustness.rpc", "fog") == pytest.approx(own[1] / own[0])
    of_baseline = "robustness.mpc_of_baseline"
    assert value(found, "a", of_baseline, "corrupted") == pytest.approx(own[1] / base[0])
    change = "change.robustness.mpc"
    assert value(found, "a", change, "corrupted") == pytest.approx(own[1] - base[1])
    assert value(found, "a", f"change.{AP}") == pytest.approx(own[0] - base[0])
    assert value(found, "a", AP, "corrupted") == pytest.approx(own[1])
    told = number(found, "net/a", "robustness.mpc", "corrupted")
    assert told is not None
    assert told.reason.startswith(f"P is {AP}; mean over fog at severities 1, 2; IoU 0.50; ")
    assert (told.unit, told.better) == ("fraction", "higher")


def test_mpc_is_the_mean_over_corruptions_of_the_mean_over_severities() -> None:
    snow = Condition("snow", 3)
    rows = world(baseline=(40, 20, 10)) | {("net/baseline", snow): finding(40)}
    found = summary_of(candidates([]), rows, with_settings(conditions=(CLEAN, *FOG, snow)))
    expected = ((recall(20) + recall(10)) / 2 + 1) / 2
    assert value(found, "baseline", "robustness.mpc", "corrupted") == pytest.approx(expected)
    assert value(found, "baseline", "robustness.mpc", "weather") == pytest.approx(expected)
    # The mean over conditions gives each of them the same weight.
    expected = (recall(20) + recall(10) + 1) / 3
    assert value(found, "baseline", AP, "corrupted") == pytest.approx(expected)


def test_intervals_are_those_of_the_resampled_data_sets() -> None:
    rows = {
        (f"net/{name}", condition): scattered(seed + at)
        for seed, name in ((0, "baseline"), (10, "a"))
        for at, condition in enumerate((CLEAN, *FOG))
    }
    found = summary_of(candidates(["a"]), rows)
    for metric, place in (
        (f"change.{AP}", "clean"),
        ("robustness.rpc", "corrupted"),
        ("change.robustness.rpc", "corrupted"),
        ("change.robustness.mpc", "fog"),
    ):
        told = number(found, "net/a", metric, place)
        assert told is not None
        assert told.interval == "bootstrap-percentile"
        assert told.low is not None
        assert told.value is not None
        assert told.high is not None
        assert told.low < told.value < told.high


def test_changes_of_calibration_errors_have_the_intervals_of_their_metric() -> None:
    count = 300
    rows = {
        ("net/baseline", CLEAN): scattered(1, count),
        ("net/a", CLEAN): scattered(2, count),
    }
    settings = with_settings(conditions=(CLEAN,))
    found = summary_of(candidates(["a"]), rows, settings)
    told = number(found, "net/a", "change.detection.d_ece", "clean")
    assert told is not None
    weights = bootstrap_weights(count, groups=None, replicates=200, seed=0)
    wanted = metric_of("detection.d_ece").change_interval(
        rows["net/a", CLEAN], rows["net/baseline", CLEAN], weights, count
    )
    assert wanted.low is not None
    assert (told.low, told.high, told.interval) == (wanted.low, wanted.high, wanted.method)


def test_a_copy_of_the_baseline_changes_nothing() -> None:
    rows = {
        (f"net/{name}", condition): scattered(at)
        for name in ("baseline", "a")
        for at, condition in enumerate((CLEAN, *FOG))
    }
    settings = with_settings(metrics=(AP, "detection.d_ece", "detection.laece", "detection.ap"))
    found = summary_of(candidates(["a"]), {"select": rows, "report": rows}, settings)
    changes = [
        row.measurement for row in found.rows if ".".join(("change", "")) in row.measurement.metric
    ]
    assert len(changes) > 40
    assert {change.value for change in changes} == {0}
    assert all((change.low, change.high) == (0, 0) or change.reason for change in changes)
    lost = {
        row.measurement.value
        for row in found.rows
        if row.measurement.metric in ("boxes.lost", "boxes.new", "boxes.flipped")
    }
    assert lost == {0}


def test_a_missing_condition_leaves_neither_mpc_nor_rpc() -> None:
    rows = world(baseline=(40, 20, 10), a=(20, 10, 5))
    del rows["net/a", FOG[1]]
    found = summary_of(candidates(["a"]), rows)
    for metric in ("robustness.mpc", "robustness.rpc", "robustness.mpc_of_baseline", AP):
        told = number(found, "net/a", metric, "corrupted")
        assert told is not None
        assert told.value is None
        assert told.reason.endswith("needs every one; missing: fog:2")
    assert number(found, "net/a", "change.robustness.mpc", "corrupted") is None


def test_mpc_is_never_stated_without_rpc() -> None:
    found = summary_of(candidates(["a"]), world(baseline=(40, 20, 10), a=(0, 0, 0)))
    for metric in ("robustness.mpc", "robustness.rpc"):
        told = number(found, "net/a", metric, "corrupted")
        assert told is not None
        assert told.value is None
        assert told.reason == f"mPC stands beside rPC, and {AP} of the clean images is 0"
    corrupted = with_settings(conditions=FOG)
    rows = {key: item for key, item in world(baseline=(40, 20, 10)).items() if key[1] != CLEAN}
    found = summary_of(candidates([]), rows, corrupted)
    told = number(found, "net/baseline", "robustness.mpc", "corrupted")
    assert told is not None
    assert told.value is None
    assert "needs detection.ap50 of the clean images" in told.reason


def test_what_rests_on_few_images_has_no_interval() -> None:
    """One lost object of forty says nothing about how many others are lost elsewhere."""
    found = summary_of(candidates(["a"]), world(baseline=(40, 40, 40), a=(39, 39, 39)))
    for metric, place in (
        (f"change.{AP}", "clean"),
        (f"change.{AP}", "corrupted"),
        ("robustness.mpc", "corrupted"),
        ("change.robustness.mpc", "fog"),
    ):
        told = number(found, "net/a", metric, place)
        assert told is not None
        assert (told.low, told.high) == (None, None)
        assert "the spread rests on about 1 images; an interval needs at least 10" in told.reason


def test_changes_from_the_control_have_their_own_name() -> None:
    rows = world(baseline=(40, 20, 10), control=(30, 20, 10), a=(20, 10, 4))
    found = summary_of(candidates(["control", "a+control"]), rows)
    for prefix, other in (("change", 40), ("change_from_control", 30)):
        told = value(found, "a", f"{prefix}.{AP}")
        assert told == pytest.approx(recall(20) - recall(other))
    assert value(found, "a", "change_from_control.robustness.mpc", "corrupted") is not None
    assert number(found, "net/control", f"change_from_control.{AP}") is None


def test_cells_about_other_images_are_refused() -> None:
    rows = world(baseline=(40, 20, 10), a=(20, 10, 5))
    rows["net/a", FOG[0]] = replace(finding(10), index=np.arange(COUNT))
    with pytest.raises(DataError, match="about other images"):
        summary_of(candidates(["a"]), rows)


def test_what_decides_is_resampled_with_the_same_weights() -> None:
    watched = (f"{AP}@clean", "robustness.mpc@corrupted", f"{AP}@fog", "robustness.rpc@fog")
    rows = world(baseline=(40, 20, 10), a=(20, 10, 6))
    settings = with_settings(
        deciding="select", watched=watched, tolerances={watched[0]: 0.02, watched[1]: 0.0}
    )
    found = summary_of(candidates(["a"]), rows, settings, "select").resampled
    assert found is not None
    assert found.candidates == ("net/baseline", "net/a")
    assert found.values.shape == (200, 2, 4)
    assert np.isfinite(found.values).all()
    weights = bootstrap_weights(COUNT, replicates=200, seed=0)
    # COCO's levels are rounded numbers, so that a recall of 0.35 may not reach the one of 0.35.
    whole = weights[:, ::2].sum(axis=1)
    half = np.floor(100 * weights[:, :20:2].sum(axis=1) / whole + 1e-9) + 1
    other = np.floor(100 * weights[:, 1:20:2].sum(axis=1) / weights[:, 1::2].sum(axis=1) + 1e-9) + 1
    expected = (half + other) / 202
    expected += recall(20) - expected.mean()
    np.testing.assert_allclose(found.values[:, 1, 0], expected, atol=0.006)
    np.testing.assert_allclose(found.values[:, :, 1], found.values[:, :, 2], atol=1e-6)
    assert found.better[0, 0, 1] <= 0.01
    assert found.better[0, 1, 0] == found.no_worse[0, 1, 0] == 1


def test_binned_calibration_errors_are_resampled_but_not_tested() -> None:
    ece = "detection.d_ece@clean"
    rows = {
        (f"net/{name}", condition): scattered(seed)
        for seed, name in enumerate(("baseline", "a"))
        for condition in (CLEAN, *FOG)
    }
    settings = with_settings(deciding="select", watched=(ece,), tolerances={ece: 0.01})
    found = summary_of(candidates(["a"]), rows, settings, "select").resampled
    assert found is not None
    assert np.isfinite(found.values).all()
    assert np.isnan(found.better).all()
    assert "no test of a difference" in found.texts[found.reasons[0, 0, 1]]


def test_ranks_and_sweeps_are_about_average_precision() -> None:
    sweep = Sweep("prune{ratio}", "ratio", ((0.3, "a"), (0.5, "b")))
    settings = with_settings(sweeps=(sweep,), margins={AP: 0.5})
    rows = world(baseline=(40, 40, 40), a=(30, 30, 30), b=(10, 10, 10))
    found = summary_of(candidates(["a", "b"]), rows, settings)
    (potential,) = exhibits(found, "potential")
    assert potential["metric"] == AP
    assert {row["condition"]: row["potential"] for row in potential["rows"]} == {
        "clean": 0.3,
        "fog": 0.3,
        "corrupted": 0.3,
    }
    stopped = potential["rows"][0]["reason"]
    assert stopped.startswith("average precision is ")
    assert [rank["metric"] for rank in exhibits(found, "ranks")] == [
        f"{AP}@clean",
        "robustness.mpc@corrupted",
        "robustness.rpc@corrupted",
        "detection.d_ece@clean",
    ]
    json.dumps([item.value for item in found.exhibits])


def test_methods_are_compared_at_matched_reduction() -> None:
    sweep = Sweep("prune{ratio}", "ratio", ((0.3, "a"), (0.5, "b")))
    rows = world(baseline=(40, 40, 40), a=(30, 30, 30), b=(20, 20, 20), c=(26, 26, 26))
    macs = {"net/baseline": 8.0, "net/a": 4.0, "net/b": 2.0, "net/c": 8 / 3}
    people = candidates(["a", "b", "c"])
    found = exhibits(summary_of(people, rows, with_settings(sweeps=(sweep,)), macs=macs), "matched")
    clean, corrupted = [item for item in found if item["axis"] == "cost.macs"]
    assert (clean["metric"], corrupted["metric"]) == (AP, "robustness.mpc")
    for item in (clean, corrupted):
        (row,) = item["rows"]
        assert row["at"] == pytest.approx(3)
        share = np.log(1.5) / np.log(2)
        assert row["first"] == pytest.approx((1 - share) * recall(30) + share * recall(20))
        assert row["second"] == pytest.approx(recall(26))
        assert row["low"] < row["difference"] < row["high"]


def test_detectors_without_any_box_have_reasons_for_what_is_undefined() -> None:
    silent = detections(lambda _: [])
    rows = {
        (f"net/{name}", condition): silent if name == "a" else scattered(at)
        for name in ("baseline", "a")
        for at, condition in enumerate((CLEAN, *FOG))
    }
    found = summary_of(candidates(["a"]), {"select": rows, "report": rows})
    undefined = [row.measurement for row in found.rows if row.measurement.value is None]
    assert undefined
    assert all(told.reason for told in undefined)
