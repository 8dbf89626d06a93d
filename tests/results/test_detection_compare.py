"""Comparing and gating detectors: paired where the images are the same, and reasons elsewhere."""

from __future__ import annotations

import json
import shutil

import pytest

from shrinkproof.cli import main
from shrinkproof.results import Results
from shrinkproof.results.comparing import compare
from shrinkproof.results.naming import find_candidate
from shrinkproof.results.pairs import Pair
from shrinkproof.results.sides import Side
from shrinkproof.selectors import Selector

from ..detection_run import detection_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results():
    return Results.load(detection_run())


@pytest.fixture(scope="module")
def pair(results):
    sides = (Side(results, find_candidate(results, name)) for name in ("baseline", "int8"))
    return Pair(*sides)


def record(results, metric, condition):
    (found,) = [
        r
        for r in results.records
        if (r.recipe, r.split, r.metric, r.condition, r.slice, r.severity)
        == ("int8", "report", metric, condition, "", 0)
    ]
    return found


@pytest.mark.parametrize(
    ("metric", "condition"),
    [
        ("detection.ap", "clean"),
        ("detection.ap50", "clean"),
        ("detection.ap", "corrupted"),
        ("robustness.mpc", "corrupted"),
        ("robustness.mpc", "fog"),
        ("robustness.rpc", "corrupted"),
    ],
)
def test_changes_are_paired_and_those_of_the_summary(pair, results, metric, condition):
    found = pair.change(Selector(metric, condition))
    stored = record(results, f"change.{metric}", condition)
    assert found.is_paired
    assert found.value == pytest.approx(stored.value)
    assert (found.interval.low, found.interval.high) == pytest.approx((stored.low, stored.high))


def test_ratios_are_calculated_on_each_resampled_data_set(pair):
    found = pair.ratio(Selector("robustness.mpc", "corrupted"))
    assert found.is_paired
    # Few images differ here: then there is a reason instead of an interval.
    assert found.interval.low is None or found.interval.low < found.value < found.interval.high
    assert found.interval.low is not None or found.reason


@pytest.mark.parametrize(
    "selector",
    [
        Selector("detection.laece", "clean"),
        Selector("boxes.miss_rate", "clean"),
        Selector("boxes.miss_rate", "clean", part="class=red"),
    ],
)
def test_what_has_no_tested_interval_says_so(pair, selector):
    found = pair.change(selector)
    assert found.value is not None
    assert found.interval.low is None
    assert "interval" in found.reason or "the same value" in found.reason


def test_a_comparison_has_boxes_in_every_part(results):
    found = compare(results, "baseline", results, "int8")
    assert found.unpaired == ""
    assert found.flips == ()
    assert found.classes == ()
    assert [row.selector for row in found.corrupted[:2]] == [
        *("robustness.mpc@corrupted", "robustness.rpc@corrupted"),
    ]
    assert [row.selector for row in found.corruptions] == [
        *("robustness.mpc@gaussian_noise", "robustness.mpc@fog"),
    ]
    assert [row.selector for row in found.conditions] == [
        *("detection.ap@gaussian_noise:3", "detection.ap@fog:3"),
    ]
    assert all(row.is_paired and (row.low is not None or row.reason) for row in found.corruptions)
    assert all(row.p is None for row in found.rows)


def test_other_boxes_are_other_images(results, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(detection_run(), run)
    data = json.loads((run / "data.json").read_text())
    data["splits"]["report"]["fingerprint"] = "0" * 16
    (run / "data.json").write_text(json.dumps(data))
    found = compare(results, "baseline", Results.load(run), "int8")
    assert found.unpaired
    row = found.clean[0]
    assert row.difference is not None
    assert row.low is None
    assert "no unpaired interval of detection.ap@clean has been tested" in row.reason


# commands


def call(*arguments):
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return ended.value.code


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("change(detection.ap50@clean) >= -0.9", 0),
        ("ratio(robustness.mpc@corrupted) >= 0.1", 0),
        ("change(robustness.rpc@corrupted) >= -0.9", 0),
        ("detection.ap50@clean >= 0.999", 1),
    ],
)
def test_gates_of_boxes(rule, code):
    run = str(detection_run())
    command = ["gate", run, "int8", "--against", run, "--baseline", "baseline", "--rule", rule]
    assert call(*command) == code


def test_tables_and_status_print_boxes(tmp_path, capsys):
    run = str(detection_run())
    for command in ("results", "pareto", "status"):
        call(command, run, "--json")
        json.loads(capsys.readouterr().out)
    call("compare", run, "baseline", "int8")
    text = capsys.readouterr().out
    assert "mPC by corruption" in text
    assert "AP under 2 conditions" in text
    Results.load(run).write_records(tmp_path / "all.csv")
    assert "robustness.mpc" in (tmp_path / "all.csv").read_text()
