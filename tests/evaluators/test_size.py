"""Sizes and their ratios to the baseline, by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shrinkproof.evaluators.size import Size
from shrinkproof.records import CLEAN, Failure
from shrinkproof.testing.toys import tiny_subjects

FACTS = {
    "cost.parameters": 1000,
    "cost.nonzero": 900,
    "cost.macs": 5000,
    "cost.bytes": 4000,
    "cost.bytes_zip": 3000,
    "cost.bytes_dense": 4200,
    "cost.bytes_packed": 4100,
}
HALF = {name: size // 2 for name, size in FACTS.items()}
RATIOS = {
    "cost.compression_ratio": 2.0,
    "cost.compression_ratio_zip": 2.0,
    "cost.compression_ratio_packed": 2.0,
    "cost.parameters_ratio": 0.5,
    "cost.macs_ratio": 0.5,
}


@pytest.fixture
def measured(tmp_path):
    """Return a function: the candidate's and the baseline's sizes -> what is measured."""
    subject = tiny_subjects(tmp_path)[0]

    def measure(own, baseline):
        if baseline is not None:
            (tmp_path / "complete.json").write_text(baseline)
        else:
            (tmp_path / "complete.json").unlink()
        ((_, outcome),) = Size().measure([replace(subject, facts=own)], CLEAN)
        return outcome

    return measure


def test_ratios_by_hand(measured):
    found = {m.metric: m for m in measured(HALF, json.dumps(FACTS))}
    assert {name: m.value for name, m in found.items()} == {**HALF, **RATIOS}
    assert found["cost.compression_ratio"].better == "higher"
    assert found["cost.macs_ratio"].better == "lower"
    assert found["cost.bytes_packed"].basis == "measured"
    assert found["cost.compression_ratio"].basis == "derived"


def test_baseline_is_as_large_as_itself(measured):
    found = {m.metric: m.value for m in measured(FACTS, json.dumps(FACTS))}
    assert all(found[name] == 1.0 for name in RATIOS)


def test_without_a_baseline_sizes_stand_alone(measured):
    found = {m.metric: m for m in measured(HALF, None)}
    assert found["cost.bytes"].value == HALF["cost.bytes"]
    for name in RATIOS:
        assert found[name].value is None
        assert found[name].reason == "the baseline was not made"


def test_nothing_is_divided_by_zero(measured):
    none = {**FACTS, "cost.macs": 0}
    found = {m.metric: m for m in measured(none, json.dumps(none))}
    assert found["cost.macs_ratio"].value is None
    assert found["cost.macs_ratio"].reason == "the baseline has none to divide by"


def test_candidate_of_an_earlier_release_is_named(measured):
    old = {name: size for name, size in FACTS.items() if name != "cost.bytes_packed"}
    outcome = measured(old, json.dumps(FACTS))
    assert isinstance(outcome, Failure)
    assert "must include cost.bytes_packed" in outcome.message
    assert "delete its folder and run the study again" in outcome.message


def test_damaged_baseline_is_named(measured):
    outcome = measured(FACTS, "{")
    assert isinstance(outcome, Failure)
    assert "complete.json: must hold the sizes of the baseline" in outcome.message
