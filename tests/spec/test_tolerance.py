"""Tolerances of the study file: what may be written, and what holds where nothing is."""

from __future__ import annotations

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.spec import StudySpec, load_study_spec
from shrinkproof.spec.tolerance import Tolerance, parse_tolerance, tolerances_of

STUDY = """\
study: s
models: {m: "import:net:make"}
data: {report: digits}
conditions: {fog: [1]}
measure:
  cost: {latency: {}}
  margins: {accuracy.top1: 0.02}
select:
  minimize: [robustness.mean_error, cost.bytes, cost.latency_median]
  maximize: [accuracy.top1@clean]
"""


def stated(spec: StudySpec) -> dict[str, Tolerance]:
    assert spec.select is not None
    selectors = [selector for selector, _ in spec.select.objectives()]
    return tolerances_of(selectors, spec.select, spec.measure.margins)


def problems(lines: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_study_spec(STUDY + lines)
    return list(caught.value.problems)


def test_percentages_and_numbers() -> None:
    assert parse_tolerance("1 %") == Tolerance(0.01, is_relative=True, source="select.tolerance")
    assert parse_tolerance("2.5%").number == 0.025
    assert parse_tolerance(500) == Tolerance(500.0, is_relative=False, source="select.tolerance")
    assert parse_tolerance("1 %").of(2000.0) == 20.0
    assert parse_tolerance(500).of(2000.0) == 500.0


@pytest.mark.parametrize("text", ["1", "one %", "-1 %", "", "%", "nan %", "inf %"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_tolerance(text)


def test_defaults() -> None:
    spec = load_study_spec(STUDY)
    found = stated(spec)
    assert found == {
        "robustness.mean_error": Tolerance(0.0, is_relative=False, source="default"),
        "cost.bytes": Tolerance(0.01, is_relative=True, source="default"),
        "cost.latency_median": Tolerance(0.05, is_relative=True, source="default"),
        "accuracy.top1@clean": Tolerance(0.02, is_relative=False, source="measure.margins"),
    }


def test_what_is_written_wins() -> None:
    spec = load_study_spec(
        STUDY
        + "  tolerance: {cost.bytes: 500, cost.latency_median: 10 %, accuracy.top1@clean: 0}\n"
    )
    found = stated(spec)
    assert found["cost.bytes"] == parse_tolerance(500)
    assert found["cost.latency_median"] == parse_tolerance("10 %")
    assert found["accuracy.top1@clean"] == parse_tolerance(0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "{cost.byts: 1}",
            "unknown metric 'cost.byts'; did you mean 'cost.bytes'?",
        ),
        (
            "{cost.macs: 1 %}",
            "select.tolerance.cost.macs: cost.macs is no objective of this study; "
            "did you mean 'cost.bytes'?",
        ),
        ("{cost.bytes: -1}", "select.tolerance.cost.bytes: must be at least 0, got -1"),
        (
            "{cost.bytes: a lot}",
            "select.tolerance.cost.bytes: must be a number or a percentage like '1 %', got 'a lot'",
        ),
        ("{cost.bytes: true}", "select.tolerance.cost.bytes: must be a number, got true"),
        (
            "{accuracy.top1@clean: 1 %}",
            "a percentage needs a cost, accuracy.top1@clean has its own scale; write the "
            "difference that matters as a number, for example 0.01",
        ),
        ("[1]", "select.tolerance: must be a mapping, got [1]"),
        ("{nothing@: 1}", "must be 'metric'"),
    ],
)
def test_every_problem_is_found_with_its_line(line: str, expected: str) -> None:
    (found,) = problems(f"  tolerance: {line}\n")
    assert found.startswith("study.yaml:11:")
    assert expected in found
