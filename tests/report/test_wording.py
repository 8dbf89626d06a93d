"""Numbers in readers' words: percent, points, prefixes, and never a negative zero."""

from __future__ import annotations

import pytest

from shrinkproof.metrics.names import METRIC_NAMES, PREFIXES
from shrinkproof.report import wording

NB, MINUS, TIMES = wording.SPACE, wording.MINUS, "\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize(
    ("metric", "unit", "value", "text"),
    [
        ("accuracy.top1", "fraction", 0.9734, f"97.3{NB}%"),
        ("calibration.ece", "fraction", 0.0123, f"1.23{NB}%"),
        ("robustness.mce", "ratio", 1.042, f"104.2{NB}%"),
        ("accuracy.brier", "fraction", 1.25, "1.250"),
        ("accuracy.nll", "nat", 0.2144, f"0.214{NB}nat"),
        ("cost.bytes", "bytes", 1_240_000, f"1.24{NB}MB"),
        ("cost.bytes", "bytes", 999, f"999{NB}B"),
        ("cost.bytes", "bytes", 163_000, f"163{NB}kB"),
        ("cost.macs", "count", 40_800_000, f"40.8{NB}M"),
        ("cost.latency_p95", "seconds", 0.00831, f"8.31{NB}ms"),
        ("cost.latency_ratio", "ratio", 0.476, f"0.48{NB}{TIMES}"),
        ("calibration.temperature", "ratio", 1.7838, "1.78"),
        ("fidelity.agreement", "fraction", 0.9995, f"99.95{NB}%"),
        ("cost.nonzero", "count", 0, "0"),
    ],
)
def test_amounts(metric, unit, value, text):
    assert wording.amount(metric, unit, value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0042, f"{MINUS}0.42"), (0.013, "+1.30"), (0.0, "0.00"), (-1e-9, "0.00")],
)
def test_changes_of_percentages_are_points(value, text):
    assert wording.difference("change.accuracy.top1", "fraction", value) == f"{text}{NB}pp"


def test_intervals_use_the_unit_of_their_value():
    row = {"metric": "accuracy.top1", "unit": "fraction", "low": 0.9251, "high": 0.9391}
    assert wording.span(row) == "92.5 to 93.9"
    assert (
        wording.span({**row, "metric": "change.accuracy.top1", "low": -0.01})
        == f"{MINUS}1.00 to +93.91"
    )
    assert wording.span({**row, "low": None}) == ""
    seconds = {"metric": "cost.latency_p95", "unit": "seconds", "low": 0.001, "high": 0.002}
    assert wording.span(seconds) == "1.00 to 2.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, f"4.00{NB}{TIMES}{NB}smaller"),
        (16.0, f"2.00{NB}{TIMES}{NB}larger"),
        (8.0, "unchanged"),
        (8.01, f"about{NB}equal"),
    ],
)
def test_times(value, text):
    assert wording.times(value, 8.0) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.5, f"2.00{NB}{TIMES}{NB}faster"),
        (1.5, f"1.50{NB}{TIMES}{NB}slower"),
        (1.06, f"1.06{NB}{TIMES}{NB}slower"),
        (1.01, f"about{NB}the{NB}same (1.01{NB}{TIMES})"),
        (0.96, f"about{NB}the{NB}same (0.96{NB}{TIMES})"),
    ],
)
def test_latencies_within_the_noise_are_no_finding(ratio, text):
    assert wording.pace(ratio) == text


def test_changes_against_a_control_are_printed_like_changes():
    row = {"metric": "change_from_control.accuracy.top1", "unit": "fraction"}
    assert wording.span({**row, "low": -0.01, "high": 0.02}) == f"{MINUS}1.00 to +2.00"
    assert wording.difference(row["metric"], "fraction", 0.01) == f"+1.00{NB}pp"
    assert wording.bare(row["metric"]) == wording.bare("change.accuracy.top1") == "accuracy.top1"


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_every_metric_has_a_readers_name(name):
    assert wording.metric_name(name) != name


@pytest.mark.parametrize("prefix", [prefix.text for prefix in PREFIXES])
def test_every_prefix_has_a_readers_name(prefix):
    read = wording.metric_name(prefix + "calibration.ece[bins=10]")
    assert prefix not in read
    assert "alibration error (ECE), bins=10" in read


def test_prefixes_are_read_one_after_the_other():
    name = wording.metric_name("change.scaled.accuracy.nll")
    assert name == "Change of negative log-likelihood after temperature scaling"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "p < 0.001"), (0.0009, "p < 0.001"), (0.0124, "p = 0.012"), (0.314, "p = 0.31"),
     (1.0, "p = 1.00")],
)  # fmt: skip
def test_p_values(value, text):
    assert wording.p_value(value).replace(NB, " ") == text
    assert wording.amount("null_p.calibration.ece", "probability", value) == wording.p_value(value)


def test_margins_are_points():
    assert wording.points(0.01) == f"1{NB}point"
    assert wording.points(0.005) == f"0.5{NB}points"


def test_a_note_loses_what_it_says_about_its_interval():
    note = "reference: a; no interval with tested coverage; the spread rests on 4 images; b"
    assert wording.without_interval(note) == "reference: a; b"


@pytest.mark.parametrize(
    ("metric", "unit", "text"),
    [
        ("accuracy.brier", "ratio", "0.123"),
        ("calibration.corp_miscalibration", "ratio", "0.1235"),
        ("saliency.hcc", "ratio", "0.12"),
        ("robustness.relative_mce", "ratio", f"12.3{NB}%"),
        ("scaled.calibration.ece", "fraction", f"12.35{NB}%"),
        ("flips.churn", "fraction", f"12.35{NB}%"),
    ],
)
def test_plain_ratios_carry_no_sign_of_multiplication(metric, unit, text):
    assert wording.amount(metric, unit, 0.12346) == text


def test_names_fall_back_to_what_the_study_calls_them():
    assert wording.metric_name("plugin.sharpness") == "plugin.sharpness"
    assert wording.place_name("gaussian_noise", 3) == "gaussian noise, severity 3"
    assert wording.place_name("corrupted", 0) == "all corruptions"
    assert wording.place_name("", 0) == ""
